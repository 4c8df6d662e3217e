"""Django's tasks in this queue: `dbbasic_queue.django` is the address."""
