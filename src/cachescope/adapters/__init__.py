"""What a call means: one file per library, each a table of methods and kinds, its traps, and what it can't see."""
