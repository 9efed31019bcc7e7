"""Options that many commands have, in the same words."""

from typing import Annotated

import typer

By = Annotated[str, typer.Option("--by", help="Who says this. Default: the user of this machine.")]
Json = Annotated[bool, typer.Option("--json", help="JSON in place of tables.")]
Run = Annotated[str, typer.Option("--run", "-r", help="Run. Default: CROSSBOOK_RUN, demo.")]
Why = Annotated[str, typer.Option("--why", help="Why; kept with the record.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
