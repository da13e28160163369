"""What both hosts compute alike: pure functions that know neither of them."""
