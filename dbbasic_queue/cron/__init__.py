"""Crontab entries, from the templates in cron/."""
