"""For the tests of an application: `pytest_plugins = ["dbbasic_queue.testing"]`, fixture `dbq`."""

from .integrations.testing import TestingQueue, dbq

__all__ = ["TestingQueue", "dbq"]
