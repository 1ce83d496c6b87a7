"""Ways to ask that change nothing: courtesies around a question, and question frames with one meaning.

Everything here works on a text in canonical words: lower case, single spaces, punctuation as words of its own.
"""

from __future__ import annotations

import re

from hasten.cache.semantic.words import listed

_GREETING = (
    r"(?:hi|hiya|hello|hey|heya|howdy|greetings|good (?:morning|afternoon|evening|day)|morning|afternoon|evening)"
    r"(?: (?:there(?! (?:is|are|was|were)\b)|all(?! the\b)|team|everyone|folks|guys|again))?"
)
_FILLER = (
    r"um|umm|uh|uhm|uhh|erm|er|hmm|hm|so|ok|alright|yeah|yes|yep|oh|ah|anyway|basically|please|excuse me|pardon me|"
    r"(?:sorry(?: to (?:bother|trouble) you)?|well|thanks(?: in advance)?|thank you|apologies)(?= ?[,.:!-]| but\b)"
    r"(?: ?,? but)?|"
    r"(?:just )?(?:a )?(?:quick|silly|stupid|dumb|simple|short|small|random|general|basic|quick little)"
    r" (?:question|1|one|query|thing)(?: for you| here)?(?: ?,? but)?|"
    r"(?:just|i am just|i was just|i was|i am|i have been) (?:wondering|curious)|"
    r"i wonder|i (?:just )?have a (?:quick |small |simple )?question|(?:a )?question(?= ?[:,])|"
    r"hope (?:you are|this finds you|all is) well|(?:can|could) you help(?: me)?(?: out)?(?= ?[,.:?])|"
    r"i need (?:some )?help(?= ?[,.:])"
)
_COURTESY = (
    r"(?:do|would|could) you (?:happen to )?know|any (?:idea|clue)|(?:do you have|have you) (?:got )?any idea|"
    r"(?:please )?(?:can|could|would|will) (?:you|anyone|someone) (?:please |kindly |possibly )*"
    r"(?:tell me|let me know|explain(?: to me)?|advise(?: me)?(?: on)?|clarify)|"
    r"(?:please |kindly )?(?:tell me|let me know)|"
    r"i (?:would (?:really )?(?:like|love)|want|wanted|need|am trying|was hoping|am looking) to "
    r"(?:know|find out|ask(?: you)?|figure out|work out)|i (?:would|wanted|want) to ask"
)
#: What may follow a greeting or filler: a question, a statement about oneself, a request.
_STARTER = (
    r"how|what|when|where|which|who|whom|whose|why|can|could|do|does|did|is|are|am|was|were|will|would|should|shall|"
    r"may|must|might|has|have|had|i|my|we|our|if|whether|there is|there are|in what|in which|at what|on what|on which|"
    r"for how|to what|to whom|the|a|any|tell|show|give|explain|list|help|find|book|track|cancel|remind|set|send|please"
)
_SEP = r" ?(?:[,.!:-]+ ?)?"
LEAD = re.compile(rf"(?:(?:{_GREETING}|{_FILLER})(?= |[,.!:-]|$){_SEP})+(?=(?:{_STARTER})\b)")
# Not "when": "tell me when my order is ready" asks for a call, not for a time.
INDIRECT = re.compile(
    rf"(?:{_COURTESY}) (?:[,:.?] )*(?:exactly )?"
    r"(?=(?:how (?:to|i|we|1|much|many|long|often|far|old|do|can|does|is|are)|what|where|which|who|why)\b)"
)
_TASKS = (
    r"write|rewrite|rephrase|paraphrase|translate|summarize|summarise|shorten|proofread|draft|compose|describe|explain|"
    r"(?:give|show|tell|book|find|send|remind|make) me"
)
_MORE_TASKS = (
    r"correct|edit|generate|create|list|make|suggest|recommend|convert|calculate|compare|find|solve|check|name|define|plan|"
    r"book|remind|set|send|track|cancel|transfer|fix|debug|format|extract|tell|give|show"
)
#: "would you please write ...": asked or told, the same request. "Can you fix ..." without "please" may be a question.
REQUEST = re.compile(
    rf"(?:please |kindly )?(?:can|could) you (?:help me )?(?=(?:{_TASKS})\b(?: \S+){{3}})|"
    rf"(?:(?:please|kindly)|(?:can|could|would|will) you (?:please|kindly)|i (?:would like|want|need) you to)"
    rf" (?=(?:{_TASKS}|{_MORE_TASKS})\b)"
)
_CLOSING = (
    r"many thanks|thanks(?: (?:so much|a lot|a million|a bunch|very much|in advance|again|for (?:the|your|any) help))*|"
    r"thank you(?: (?:so much|very much|a lot|in advance|again|for (?:the|your|any) help))*|cheers|please|ta|"
    r"kind regards|best regards|regards|much appreciated|(?:any )?help (?:is |would be )?appreciated|"
    r"(?:please )?(?:any (?:help|ideas?|advice|thoughts|tips)|help(?: me)?|advise)|"
    r"if possible|if (?:you do not|you would not) mind|if that is ok|by any chance|(?:please )?let me know|"
    r"sorry(?: to bother you| for the trouble)?|do you know|can you (?:help|tell me)|could you (?:help|tell me)"
)
#: Closings after a stop or comma, and those that end a sentence without one.
TAIL = re.compile(rf"(?: ?[.,!?:-]+ (?:{_CLOSING}))+(?: ?[.,!?:-])*$")
BARE_TAIL = re.compile(
    r"(?<! to)(?<! say)(?<! text)(?<! reply)(?<! saying)(?<! says)(?<! said)(?<! a)(?<! the)(?<! of)(?<! with)"
    r"(?<! by)(?<! for)(?<! as)(?<! and)(?<! or)(?<! called)(?<! please) "
    r"(?:please|(?:many )?thanks(?: (?:so much|a lot|in advance|very much))?|"
    r"thank you(?: (?:so much|very much|in advance))?|by any chance|if possible)$"
)
_OR_NOT = re.compile(
    r"^(?:is|are|am|do|does|did|can|could|should|will|would|was|were|has|have) .+(?= ,? ?or not$)"
)
_CLOSING_ENDS = listed(
    """
    thanks much lot million bunch advance again help you cheers please ta regards appreciated idea ideas advice
    thoughts tips me advise possible mind ok chance know sorry trouble not
    """
)
#: Sounds of thinking, anywhere.
SOUNDS = frozenset(("um", "umm", "uh", "uhh", "uhm", "erm", "hmm"))
MEASURES = listed(
    """
    mm nm cm micron microns micrometer micrometers many micrometre in to of per are is a an
    """
)
_POLITE_INSIDE = re.compile(
    r"^((?:how|where|when|what)? ?(?:can|could|do|would|should|may) (?:i|you|we)) please (?=[a-z])"
)

_STATES = (
    r"not|never|look|feel|sound|smell|seem|have|keep|still|always|end|lose|owe|compare|already|even|only|look|weigh|"
    r"rank|score|do|fare|differ|fit|relate|match|measure|be|become|appear|act|behave|spend|sleep|cost|cough|sweat|"
    r"get so|come|love|like|hate|want|mean|sneeze|snore|suffer|work|live|own|speak|help|miss|forget|react|respond|think"
)
_HOW = re.compile(
    rf"^how (?:(?:do|can|could|would) (?:i|we)(?: go about)?|(?:can|does) (?:1|one)|to|am i able to|"
    rf"is it possible(?: for me)? to) (?!(?:{_STATES})\b)(?=[a-z])|"
    rf"^what (?:is the way|are the steps|do i (?:need|have) to do|steps do i (?:need|have) to take) (?:in order )?to "
    rf"(?!(?:{_STATES}|the|a|an|my|your|our|this|that)\b)(?=[a-z])"
)
#: After "can you tell me": the order of a statement.
_HOW_I = re.compile(
    rf"^how (?:i|we) (?:can |could |would |might )?(?:go about )?(?!(?:{_STATES}|am|was|did|should|got)\b)(?=[a-z])"
)
_WHAT_X_IS = re.compile(
    r"^(what|where|who|when|how (?:much|long|far|old|big|tall)) ((?:the|my|your|our|this|a|an) [a-z0-9' -]+) (is|are)$"
)
_POSSIBLE = re.compile(
    r"^(?:is it possible(?: for (?:me|us))?|am i able|would it be possible(?: for (?:me|us))?) to (?=[a-z])|"
    r"^(?:could i|can we) (?!(?:be|have)\b)(?=[a-z])"
)
_WHERE_VERBS = (
    r"(?=(?:find|buy|get|download|park|report|send|sign|register|apply|check|pay|return|submit|renew|"
    r"purchase|order|book|change|update|file|recycle|collect|pick up)\b)"
)
_WHERE = re.compile(
    rf"^where (?:do i|can i|could i|would i|can we|do we|to|can one|does one|can 1|does 1) (?:go to )?{_WHERE_VERBS}"
)
_WHO = re.compile(
    r"^whom? (?:(?:do|can|could|should) (?:i|we)|to) (?=(?:contact|call|phone|email|ring|speak (?:to|with)|write to)\b)"
)
_PRICE = re.compile(
    r"^what is the (?:price|cost) of (?!(?:living|capital|not)\b)|^what (?:do|does) (?=.+ cost$)"
)
_COSTS = re.compile(r"^how much (?:do|does) (.+) cost$")
_HAVE_GOT = re.compile(r"^(have|has) (you|i|we|they) got ")
_HAS = re.compile(r"\b(what|who|it|that|there|he|she|where|how|everything|something) is (been|got|had)\b")

#: "On the menu, what ...?" -> "What ... on the menu": only where it cannot attach to another word at the end.
_PREPOSITIONS = (
    r"on|in|at|for|to|from|near|with|without|under|during|before|after|by|inside|outside|around|within|over|through|"
    r"between|against|towards?|about|into|onto|since|until|per|via|as|like|than"
)
_LATER = (
    rf"{_PREPOSITIONS}|that|which|who|whose|whom|if|when|while|where|because|and|or|but|so|also|then|it|this|"
    r"[,.?:]"
)
_FRONTED = re.compile(
    rf"^((?:on|in|at|for|to|near|with|under|during|before|after)"
    rf"(?: (?!(?:{_PREPOSITIONS}|i|you|we|they|he|she|it)\b)[a-z0-9'%$£€-]+){{1,6}}) , "
    rf"((?:how|what|which|who|when|where|why|can|could|do|does|did|is|are|should|will|would)\b"
    rf"(?: (?!(?:{_LATER})(?: |$))[a-z0-9'%$£€-]+){{2,14}})$"
)
_LATE_COMMA = re.compile(
    r" [,.!;] (?=(?:how|what|why|can i|should i|do i|could i|is it|is there|are there)\b)"
)
_NOT_FIRST = re.compile(
    r"\b(can|could|do|does|did|is|are|am|was|were|will|would|should|has|have|had) not (i|you|we|he|she|it|they|there)\b"
)
_WHETHER = re.compile(r"\b(check|tell|know|see|find out|sure|determine|decide|test|verify) if (?=\S+ \S)")
_DIFFERENCE = re.compile(
    r"^what (?:is|are) the differences? between (\S+(?: (?!and |or )\S+){0,5}) and "
    r"((?!and |or )\S+(?: (?!and |or |in |when )\S+){0,5})( in [a-z0-9' -]+)?$"
)
_OXFORD = re.compile(r" , (?=(?:and|or) )")


_QUESTION_WORDS = ("how ", "what ", "where ", "when ", "who ", "why ", "which ")


def reframe(text: str) -> str:
    """Return a question in canonical words with its courtesies dropped and its frame, if known, in the one form."""
    text = uncourteous(text)
    text = _POLITE_INSIDE.sub(r"\1 ", text)
    indirect = INDIRECT.match(text)
    if indirect:
        text = text[indirect.end() :]
        text = _HOW_I.sub("how do i ", text)
        text = _WHAT_X_IS.sub(r"\1 \3 \2", text)
    if " , " in text:
        text = _FRONTED.sub(r"\2 \1", text)
        text = _OXFORD.sub(" ", text)
    text = _LATE_COMMA.sub(" ", text)
    if " is " in text:
        text = _HAS.sub(r"\1 has \2", text)
    if " not " in text:
        text = _NOT_FIRST.sub(r"\1 \2 not", text)
    if " if " in text:
        text = _WHETHER.sub(r"\1 whether ", text)
    return framed(text)


def uncourteous(text: str) -> str:
    """Return the text without greetings, fillers and thanks around it."""
    lead = LEAD.match(text)
    if lead:
        rest = text[lead.end() :]
        if rest.count(" ") >= (2 if rest.startswith(_QUESTION_WORDS) else 3):  # not "so is my brother"
            text = rest
    request = REQUEST.match(text)
    if request:
        text = text[request.end() :]
    return bare(text)


def bare(text: str) -> str:
    """Return the text without thanks at its end."""
    if text[text.rfind(" ") + 1 :] not in _CLOSING_ENDS:
        return text.rstrip(" ?!.,:;-") or text
    tail = TAIL.search(text)
    if tail and tail.start() > 0:
        text = text[: tail.start()]
    tail = BARE_TAIL.search(text)
    if tail and text.count(" ", 0, tail.start()) >= 3:
        text = text[: tail.start()]
    whether = _OR_NOT.match(text)
    return (whether[0] if whether else text).rstrip(" ?!.,:;-") or text


def framed(text: str) -> str:
    """Return a question whose frame is known in the one form of that frame."""
    first = text[:4]
    if first == "how ":
        if text.startswith("how much "):
            costs = _COSTS.match(text)
            return f"how much is {costs[1]}" if costs else text
        return _HOW.sub("how do i ", text)
    if first == "what":
        price = _PRICE.match(text)
        if price:
            return "how much is " + text[price.end() :].removesuffix(" cost")
        if "difference" in text:
            return _DIFFERENCE.sub(_sorted_difference, text)
        return _HOW.sub("how do i ", text)
    if first == "wher":
        return _WHERE.sub("where can i ", text)
    if text.startswith("who"):
        return _WHO.sub("who do i ", text)
    if text.startswith(("have ", "has ")):
        return _HAVE_GOT.sub(lambda m: f"do {m[2]} have ", text)
    if text.startswith(("is ", "am ", "would ", "could ", "can we ", "will ")):
        return _POSSIBLE.sub("can i ", text)
    return text


def _sorted_difference(match: re.Match[str]) -> str:
    """The difference between two things is the same from either side."""
    one, other = sorted((match[1], match[2]))
    return f"what is the difference between {one} and {other}{match[3] or ''}"
