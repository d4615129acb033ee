"""Command lines, the only package that knows absl. Imports nothing heavy.

Synopsis:

    from aelab.cli import CommandLine, run

    def main(argv):
        cli = CommandLine(__doc__)
        cli.add_run()
        args = cli.parse(argv)
        print(args.run_dir, args.checkpoint)

    run(main)
"""

from aelab.cli.flags import CommandLine
from aelab.cli.main import exit_code, run

__all__ = ["CommandLine", "exit_code", "run"]
