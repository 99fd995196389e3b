"""The dispatcher: plans, journals, sends, follows and recovers calls."""
