"""From patch features to visual tokens: one file a kind, `kind` in the run file chooses."""
