"""anynet completion."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from anynet.cli.grammar import Choice, Output, Result, argument, command

__all__ = ["VARIABLE", "complete", "completion"]

VARIABLE = "COMPLETE_ANYNET"
"""Set by a shell's script while it asks for completions."""


@command("completion", argument("shell", "a shell (bash, zsh, fish)", kind=Choice("bash", "zsh", "fish")))
def completion(output: Output, shell: str) -> Result:
    """Print a script that completes commands, options and their values in a shell.

    \b
    bash: eval "$(anynet completion bash)"           in ~/.bashrc
    zsh:  eval "$(anynet completion zsh)"            in ~/.zshrc
    fish: anynet completion fish | source            in ~/.config/fish/config.fish
    """
    script = _class(shell)(click.Command("anynet"), {}, "anynet", VARIABLE).source()
    return Result({"shell": shell, "script": script}, script)


def complete(group: click.Command, instruction: str) -> int:
    """Answer a shell's script, which asks with `VARIABLE` set to "bash_complete", say."""
    return click.shell_completion.shell_complete(group, {}, "anynet", VARIABLE, instruction)


def _class(shell: str) -> type[ShellComplete]:
    found = get_completion_class(shell)
    assert found is not None
    return found


@add_completion_class
class _Bash(BashComplete):
    """Bash breaks words at the equals sign: ``model=m`` comes as three words, and only what follows the sign is to be completed."""

    name = "bash"
    key = ""

    @staticmethod
    def _check_version() -> None:
        """No question to bash about its version at each start of a shell."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        if incomplete == "=" and args:
            args, incomplete, self.key = args[:-1], f"{args[-1]}=", f"{args[-1]}="
        elif args[-1:] == ["="] and len(args) > 1:
            self.key = f"{args[-2]}="
            args, incomplete = args[:-2], self.key + incomplete
        joined: list[str] = []
        for word in args:
            if joined and (word == "=" or joined[-1].endswith("=")):
                joined[-1] += word
            else:
                joined.append(word)
        return joined, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{str(item.value).removeprefix(self.key)}"
