"""The teacher's reasoning about an image, beside the scores of teacher and student."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zreward_core.models.scores import Scores

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Explanation:
    """Scores of one image in D dimensions, and the traces that precede the teacher's."""

    prompt: str
    traces: dict[str, list[str]]
    """Dimension to the teacher's sampled traces, over which its distribution is averaged."""
    teacher: Scores
    """The teacher's distributions of the image."""
    student: Scores | None
    """The student's distributions of the image, if one was given."""

    def __str__(self) -> str:
        lines = [self.prompt]
        for d, name in enumerate(self.teacher.dimensions):
            lines += ["", name, *(f"  {trace}" for trace in self.traces[name])]
            for who, scores in (("teacher", self.teacher), ("student", self.student)):
                if scores is not None:
                    mean, std = scores.mean[0, d], scores.std[0, d]
                    shares = (
                        f"{level:g}: {share:.2f}"
                        for level, share in zip(scores.levels, scores.probs[0, d], strict=True)
                    )
                    lines.append(f"  {who} {mean:.2f} ± {std:.2f}  ({', '.join(shares)})")
        return "\n".join(lines)

    def to_pandas(self) -> "pd.DataFrame":
        """A row per dimension and level: dimension, level, teacher and student (probabilities)."""
        import pandas as pd

        students = None if self.student is None else self.student.probs[0].tolist()
        rows = [
            (name, level, share, None if students is None else students[d][s])
            for d, name in enumerate(self.teacher.dimensions)
            for s, (level, share) in enumerate(
                zip(self.teacher.levels.tolist(), self.teacher.probs[0, d].tolist(), strict=True)
            )
        ]
        return pd.DataFrame(rows, columns=["dimension", "level", "teacher", "student"])
