"""Rows as tables and files: derived from a run's head and journal, and derivable again."""
