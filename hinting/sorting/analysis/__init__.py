"""What a trained sorter computes, and what fails as lists get longer."""
