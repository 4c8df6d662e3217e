"""Units, from the templates in systemd/."""
