"""What tests stand on: real servers that end with the test run, and waiting without sleeping for luck."""
