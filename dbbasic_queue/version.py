"""The version of the library, which the package, the commands and the check all name."""

VERSION = "2.0.0"
