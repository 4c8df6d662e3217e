"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    """An order, which a task marks as sent."""

    sent = models.BooleanField(default=False)
