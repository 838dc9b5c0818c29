"""Other people's tests of what this library claims to be, run against it."""
