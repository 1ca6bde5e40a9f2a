"""Questions to the judge of a step, and its verdicts. All questions that are open at once are one batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from services.oracle.judge import Comparison, Judge, JudgeUnavailableError, Opinion, abstention
from services.oracle.shards.judged_part import JudgedPart, NoPartError
from services.oracle.verdicts.answers import answer_of
from shared.contracts.plans import EvaluationPlan, HalfStepPlan
from shared.contracts.records import Message, Rollout, Verdict
from shared.contracts.spec import OracleSpec
from shared.inpo.seeds import seed_of
from shared.inpo.selection import Question, Selected, Selection, make_selection
from shared.store.artifacts import layout


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a step with its texts; `question` holds the indices of the responses."""

    prompt_id: str
    prompt: Sequence[Message]
    question: Question
    first: str
    second: str

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What identifies the question, and its verdict, within a step."""
        return self.prompt_id, self.question.a, self.question.b, self.question.draw


class UnansweredError(RuntimeError):
    """The judge failed on some questions; the others are remembered by the judge itself."""

    def __init__(self, num: int, reason: str) -> None:
        super().__init__(f"{num} comparisons failed, the first: {reason}")


@dataclass(slots=True)
class StepOracle:
    """The oracle of one step: asks its judge, draws answers, keeps every verdict in the order of asking.

    With `tolerant` a failed comparison becomes a verdict without an answer, otherwise `UnansweredError`. The judge sees
    what `spec.judged_part` leaves of the responses; a comparison that it leaves nothing of is an abstention.
    """

    judge: Judge
    spec: OracleSpec
    seed: int
    step: str
    tolerant: bool
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    _part: JudgedPart = field(init=False)

    def __post_init__(self) -> None:
        self._part = JudgedPart(self.spec.judged_part)

    def ask(self, questions: Sequence[Asked]) -> list[float | None]:
        """An answer a question, in order; None where there is no verdict."""
        cut = [self._comparison(asked) for asked in questions]
        asking = [comparison for comparison in cut if isinstance(comparison, Comparison)]
        try:
            answered = iter(self.judge.compare(asking) if asking else [])
        except JudgeUnavailableError as error:
            error.progress += len(self.verdicts)
            raise
        opinions = [next(answered) if isinstance(asked, Comparison) else asked for asked in cut]
        errors = [opinion.error or "" for opinion in opinions if opinion.status == "error"]
        if errors and not self.tolerant:
            raise UnansweredError(len(errors), errors[0])
        fresh = [self._verdict(asked, opinion) for asked, opinion in zip(questions, opinions, strict=True)]
        self.verdicts.extend(fresh)
        return [verdict.answer for verdict in fresh]

    def _comparison(self, asked: Asked) -> Comparison | Opinion:
        """What the judge is asked, or why it need not be."""
        try:
            first, second = self._part.of(asked.first), self._part.of(asked.second)
        except NoPartError as error:
            return abstention(str(error), 0.0)
        return Comparison(asked.prompt, first, second, asked.question.draw)

    def _verdict(self, asked: Asked, opinion: Opinion) -> Verdict:
        identity, probability = self.judge.identity(), opinion.probability
        prompt_id, a, b, draw = asked.key
        return Verdict(
            prompt_id=prompt_id,
            a=a,
            b=b,
            draw=draw,
            status=opinion.status,
            probability=probability,
            probability_given=opinion.probability_given,
            probability_swapped=opinion.probability_swapped,
            answer=answer_of(self.spec.answers, probability, "draw", self.seed, self.step, prompt_id, a, b, draw),
            judge=identity.id,
            judge_revision=identity.revision,
            latency_s=opinion.latency_s,
            error=opinion.error,
        )


def step_name(plan: HalfStepPlan | EvaluationPlan) -> str:
    """The step's key without the run: equal runs draw equally."""
    if isinstance(plan, HalfStepPlan):
        key = layout.half_step(plan.run, plan.iteration, plan.half)
    else:
        key = layout.evaluation(plan.run, plan.version.number)
    return key.removeprefix(f"{layout.run(plan.run)}/")


def select(
    plan: HalfStepPlan, rollouts: Sequence[Rollout], ask: Callable[[Sequence[Asked]], list[float | None]]
) -> list[Selected]:
    """Run the selections of all prompts in lockstep: `ask` gets the open questions of every prompt at once."""
    selected: dict[int, Selected] = {}
    selections = [_selection(plan, rollout) for rollout in rollouts]
    answers: dict[int, list[float | None] | None] = dict.fromkeys(range(len(rollouts)))
    while answers:
        open_questions: dict[int, list[Asked]] = {}
        for index, answered in answers.items():
            try:
                questions = next(selections[index]) if answered is None else selections[index].send(answered)
            except StopIteration as stop:
                selected[index] = stop.value
            else:
                open_questions[index] = [_asked(rollouts[index], question) for question in questions]
        flat = iter(ask([asked for group in open_questions.values() for asked in group]) if open_questions else [])
        answers = {index: _take(flat, len(group)) for index, group in open_questions.items()}
    return [selected[index] for index in range(len(rollouts))]


def against_reference(rollout: Rollout, reference: Rollout) -> list[Asked]:
    """An evaluation's questions: response j against the reference policy's response j."""
    return [
        Asked(rollout.prompt_id, rollout.prompt, Question(j, j, 0), first, second)
        for j, (first, second) in enumerate(zip(rollout.responses, reference.responses, strict=True))
    ]


def _selection(plan: HalfStepPlan, rollout: Rollout) -> Selection:
    seed = seed_of("selection", plan.seed, step_name(plan), rollout.prompt_id)
    spec = plan.selection
    return make_selection(
        spec.method,
        num_responses=len(rollout.responses),
        num_pairs=spec.num_pairs,
        tied_final=spec.tied_final,
        seed=seed,
    )


def _asked(rollout: Rollout, question: Question) -> Asked:
    first, second = rollout.responses[question.a], rollout.responses[question.b]
    return Asked(rollout.prompt_id, rollout.prompt, question, first, second)


def _take(answers: Iterator[float | None], num: int) -> list[float | None]:
    return [next(answers) for _ in range(num)]
