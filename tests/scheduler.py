"""Plugin of pytest-xdist: a test at which a process died fails, and is not tried again.

Version 3.8 gives the test to the next process with --dist loadfile, until none is left and the run
hangs. Use: python -m pytest -n 2 --dist loadfile -p tests.scheduler
"""

from xdist.scheduler import LoadFileScheduling


class Files(LoadFileScheduling):
    """A file's tests run in one process; where it dies the others of the file go to another."""

    def remove_node(self, node):
        for tests in self.assigned_work.get(node, {}).values():
            for name, done in tests.items():
                if not done:
                    tests[name] = True
                    super().remove_node(node)
                    return name
        return super().remove_node(node)


def pytest_xdist_make_scheduler(config, log):
    """Take the place of --dist loadfile."""
    return Files(config, log) if config.getvalue("dist") == "loadfile" else None
