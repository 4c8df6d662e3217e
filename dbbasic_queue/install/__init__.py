"""Files put into force and taken out again."""
