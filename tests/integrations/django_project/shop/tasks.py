"""The tasks of the shop."""

import os
import signal

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task

from .errors import OutOfStock
from .models import Order

tries: list[int] = []


@task
def noop(*args, **kwargs):
    """Do nothing."""


@task()
async def anoop(*args, **kwargs):
    """Do nothing, as a coroutine."""


@task
def meaning_of_life():
    """Return a number."""
    return 42


@task
async def ameaning_of_life():
    """Return a number, as a coroutine."""
    return 42


@task
def echo(*args, **kwargs):
    """Return what it was given."""
    return {"args": args, "kwargs": kwargs}


@task
def fail_value_error():
    """Fail as a program fails."""
    raise ValueError("This task failed due to ValueError")


@task
async def afail_value_error():
    """Fail as a coroutine."""
    raise ValueError("This task failed due to ValueError")


@task
def fail_system_exit():
    """End the program."""
    raise SystemExit("This task failed due to SystemExit")


@task
def fail_own():
    """Fail by an exception of the project's own."""
    raise OutOfStock("none left")


@task
def fail_complex():
    """Fail by an exception with an exception in it."""
    raise ValueError(ValueError("This task failed"))


@task
def return_complex():
    """Return what JSON cannot hold."""
    tries.append(1)
    return lambda: True


@task(takes_context=True)
def own_id(context):
    """Return the id of its own result."""
    return context.task_result.id


@task(takes_context=True)
def fail_first(context):
    """Fail at the first attempt only."""
    if context.attempt == 1:
        raise OutOfStock("not yet")
    return context.attempt


@task(takes_context=True)
async def acontext(context, factor):
    """Return a multiple of its attempt."""
    return factor * context.attempt


@task(queue_name="mail")
def in_mail():
    """Be declared for another queue."""


@task
def send_order(number):
    """Mark an order as sent."""
    return Order.objects.filter(pk=number).update(sent=True)


@task
async def asend_order(number):
    """Mark an order as sent, as a coroutine."""
    return await Order.objects.filter(pk=number).aupdate(sent=True)


@task
def die():
    """End its worker as the kernel does that is short of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@task
def process_id():
    """Return the process that runs it."""
    return os.getpid()
