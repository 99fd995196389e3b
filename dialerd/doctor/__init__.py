"""dialerd doctor: looks at all that the daemon stands on, changes nothing, dials nobody, and says what to mend."""
