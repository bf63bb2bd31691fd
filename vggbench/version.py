"""The version, in one place; CHANGELOG.md's first heading names the same."""

VERSION = "0.1.0"
