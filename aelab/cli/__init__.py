"""Command lines, the only package that knows absl. Imports nothing heavy.

Synopsis:

    from aelab.cli import CommandLine, run

    def main(argv):
        command_line = CommandLine(__doc__)
        command_line.add_run()
        values = command_line.parse(argv)
        print(values.run_dir, values.checkpoint)

    run(main)
"""

from aelab.cli.flags import CommandLine
from aelab.cli.main import exit_code, run

__all__ = ["CommandLine", "exit_code", "run"]
