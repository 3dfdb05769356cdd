"""Analyze how a trained sorter computes, and why it fails on longer lists."""
