"""`ADMIN_CONFIG`: what dbbasic-admin shows of the queue in its menu."""

ADMIN_CONFIG = [{"icon": "🗂️", "label": "Queue", "href": "/admin/queue", "order": 60}]
