"""The unpacked Asterisks and the run directories hold no tests."""

collect_ignore = ["roots", "run"]
