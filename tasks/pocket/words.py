"""The words of the pocket world. No word plays two parts, so a text can be scored exactly."""

from __future__ import annotations

TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # topic: (cue words, seen only in posts), (label words, seen only in summaries and all equally right)
    "pet": (("leash", "kennel", "vet", "puppy"), ("pet", "dog", "animal")),
    "home": (("kitchen", "roof", "landlord", "sofa"), ("home", "house", "housing")),
    "car": (("brakes", "tires", "engine", "garage"), ("car", "auto", "vehicle")),
    "school": (("teacher", "homework", "classroom", "exam"), ("school", "education", "studies")),
    "work": (("boss", "shift", "payroll", "coworker"), ("work", "job", "career")),
    "food": (("oven", "recipe", "flour", "soup"), ("food", "cooking", "meals")),
    "health": (("clinic", "fever", "doctor", "pills"), ("health", "illness", "medicine")),
    "money": (("loan", "bank", "budget", "deposit"), ("money", "finances", "cash")),
    "wedding": (("bouquet", "bride", "vows", "groom"), ("wedding", "marriage", "ceremony")),
    "travel": (("luggage", "passport", "hotel", "airport"), ("travel", "trip", "vacation")),
    "computer": (("keyboard", "laptop", "router", "monitor"), ("computer", "software", "tech")),
    "music": (("guitar", "drummer", "concert", "chords"), ("music", "band", "songs")),
}

LEADS = ("", "question about", "help with", "advice on", "trouble with", "thoughts on")
JOINERS = (",", "and")
FILLERS = ("really", "honestly", "stuff", "thing", "basically", "whatever")

FORUM = {
    "openers": (
        "long time reader here .",
        "throwaway for obvious reasons .",
        "sorry for any typos .",
        "hi everyone .",
        "not sure where else to ask .",
        "this happened last night .",
    ),
    "one": (
        "nobody warned me about the {} .",
        "my {} is driving me crazy .",
        "i keep worrying over the {} .",
        "something is off about the {} .",
        "we argued over the {} again .",
    ),
    "two": (
        "my {} and {} are driving me crazy .",
        "someone mentioned the {} and the {} today .",
        "i had to sort out the {} and the {} .",
        "we argued over the {} and the {} again .",
        "i keep worrying over the {} and the {} .",
        "nobody warned me about the {} or the {} .",
        "it all started when the {} met the {} .",
        "my sister blames the {} and the {} .",
        "we spent all day on the {} and the {} .",
        "i am stuck between the {} and the {} .",
        "my friend lied about the {} and the {} .",
    ),
    "noise": (
        "anyway i am tired .",
        "it rained all day .",
        "my phone died twice .",
        "i did not sleep much .",
        "no idea what to say .",
        "thanks for reading this far .",
    ),
}

NEWS = {
    "openers": (
        "officials said on tuesday .",
        "a report came out today .",
        "the agency declined to comment .",
    ),
    "one": (
        "investigators are reviewing the {} .",
        "residents had warned about the {} .",
    ),
    "two": (
        "investigators are reviewing the {} and the {} .",
        "a spokesman cited the {} and the {} .",
        "witnesses described the {} and the {} .",
        "residents had warned about the {} and the {} .",
    ),
    "noise": (
        "no further details were given .",
        "the hearing continues on monday .",
        "a statement is expected today .",
    ),
}

NEXT_POST = "next post :"
IN_ORDER = "name the first then the second"
END_OF_PROMPT = "tl;dr"


def vocabulary() -> list[str]:
    """List every word that a prompt or a summary of this world can hold, sorted."""
    texts = [*LEADS, *JOINERS, *FILLERS, NEXT_POST, IN_ORDER, END_OF_PROMPT]
    for cues, labels in TOPICS.values():
        texts += [*cues, *labels]
    for frame in (FORUM, NEWS):
        for sentences in frame.values():
            texts += [sentence.replace("{}", " ") for sentence in sentences]
    return sorted({word for text in texts for word in text.split()})
