"""What raters are told unless a campaign brings its own: guidelines and practice items.

The protocol is the paper's (arXiv 2306.04751, section 6): whether each answer is acceptable, and
which of the two helps more, on five steps.
"""

from __future__ import annotations

from typing import Any

GUIDELINES = """\
# How to rate

You see a request and two answers to it. Different systems wrote them; which ones is not shown, and
which stands first is a matter of chance. Read the request, then both answers to the end.

## Is each answer acceptable?

Judge each answer for itself, not against the other one. It is **acceptable** if all of this holds:

- it does what the request asks for;
- it has no significant errors: of fact, of reasoning, of language, or in code;
- it does not repeat itself, and no part of it is without meaning.

An answer may be acceptable without being perfect. Small slips that mislead nobody do no harm.

## Which answer is more helpful?

Think of the person who wrote the request: which answer would serve them better?

| choose | when |
|---|---|
| clearly better | you would not hesitate, and another careful reader would say the same |
| slightly better | you lean to one, and could see why somebody would not |
| tie | neither helps more than the other: both are good, or both are of no use |

- Longer is not better. An answer that says what is needed in a few lines beats one that buries it.
- A list, headings or a friendly tone are no merit of their own.
- If both are unacceptable, one may still be the less harmful; say so if it is.
- You may look things up or use a translator. Do not ask another language model.

## When an item cannot be rated

Say that it is **invalid** if the request makes no sense or lacks what it speaks of, such as a text
that is not there. Say that it is **too hard** if you cannot tell what is right with reasonable
effort. Then you may leave the questions open. A few words in the comment help us.

There is no hurry, and you can stop at any time: what you have sent is kept.
"""

PRACTICE: list[dict[str, Any]] = [
    {
        "prompt": "I have 3 apples, buy 5 more and give 2 to my sister. How many do I have?",
        "completion_a": "You have 6 apples: 3 + 5 = 8, and 8 − 2 = 6.",
        "completion_b": (
            "What a lovely gesture towards your sister! Let us work it out, step by step.\n\n"
            "1. You start with **3** apples.\n2. You buy **5** more, which makes **8**.\n"
            "3. You give **2** to your sister, which leaves **7**.\n\n"
            "So you have **7 apples** left. Enjoy them!"
        ),
        "a_acceptable": True,
        "b_acceptable": False,
        "preferences": [-2],
        "told": (
            "8 − 2 is 6. The longer answer is friendlier and laid out in steps, but its result is "
            "wrong, so it is not acceptable, and the short one is clearly better."
        ),
    },
    {
        "prompt": "Write one sentence that thanks a colleague for covering my shift on Friday.",
        "completion_a": (
            "Thank you so much for covering my shift on Friday. Thank you so much for covering my "
            "shift on Friday. Thank you so much for covering my shift on Friday."
        ),
        "completion_b": "Thanks a lot for taking over my shift on Friday, I really owe you one!",
        "a_acceptable": False,
        "b_acceptable": True,
        "preferences": [2],
        "told": (
            "One sentence was asked for. An answer that says the same sentence three times repeats "
            "itself and does not do what was asked."
        ),
    },
    {
        "prompt": "Name the largest planet of the solar system.",
        "completion_a": "Jupiter.",
        "completion_b": "The largest planet of the solar system is Jupiter.",
        "a_acceptable": True,
        "b_acceptable": True,
        "preferences": [-1, 0, 1],
        "told": (
            "Both are right and complete. One is a whole sentence, the other is shorter: a tie, or "
            "at most a slight preference."
        ),
    },
]
"""Rows as in a practice file; preferences: all that are right, from -2 (A) to 2 (B)."""
