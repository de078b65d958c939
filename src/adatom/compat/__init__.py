"""The names that users of other packages have in their scripts."""
