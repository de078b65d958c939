"""What is predicted, in which units, and how errors are measured."""
