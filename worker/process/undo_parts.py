"""The parts of a process that undoes a batch: those that all processes have, and those of the command."""

from __future__ import annotations

from worker.audit import Actor
from worker.batches.revocation import Revocation
from worker.batches.undo import Undo, UndoCheck
from worker.config.environment import Environment
from worker.observability.progress import OnProgress, tell_nobody
from worker.process.part import part
from worker.process.parts import Parts


class UndoParts(Parts):
    """Builds the parts of a process that undoes batches."""

    @part
    def undo_check(self) -> UndoCheck:
        return UndoCheck(self.database, self.settings)

    def undo(self, environment: Environment, actor: Actor, on_progress: OnProgress = tell_nobody) -> Undo:
        """The undo of batches of this environment, as this actor commands it."""
        revocation = Revocation(
            self.database,
            self.keyring,
            self.clients,
            environment.as_importer(),
            self.wait,
            on_progress,
            most_tokens=self.settings.tuning.tokens_per_import,
            send_within=self.settings.tuning.send_within,
            answer_within=self.settings.tuning.over_after,
        )
        return Undo(
            self.database,
            self.clients,
            environment,
            self.settings,
            actor,
            self.undo_check,
            revocation,
            self.imports,
            self.wait,
            on_progress,
        )
