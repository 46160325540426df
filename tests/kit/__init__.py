"""What the tests of several folders share and plugin authors do not need."""
