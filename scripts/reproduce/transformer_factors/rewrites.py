"""Sentences that follow a pattern of patterns.py, each with rewrites that keep and that break it.

Braces mark where the pattern stands, or stood. The rewrite that keeps it changes the words, the one that breaks it keeps
the words as far as it can.
"""

from dataclasses import dataclass

__all__ = ["REWRITES", "Rewrite", "marked"]


@dataclass(frozen=True)
class Rewrite:
    """One sentence four times over.

    Attributes:
        original: follows the pattern.
        kept: other words, the same pattern.
        broken: much the same words, the pattern gone.
        token_kept: the pattern gone, the token on which a factor may be active (comma, bracket, quote, number, by) kept.
    """

    original: str
    kept: str
    broken: str
    token_kept: str


def marked(text: str) -> tuple[str, tuple[int, int]]:
    """The text without braces, and the characters [begin, end) that stood between them.

    Raises:
        ValueError: there is not one pair of braces.
    """
    if text.count("{") != 1 or text.count("}") != 1 or text.index("{") > text.index("}"):
        raise ValueError(f"expected one pair of braces in {text!r}")
    before, rest = text.split("{")
    inside, after = rest.split("}")
    return before + inside + after, (len(before), len(before) + len(inside))


REWRITES: dict[str, list[Rewrite]] = {
    "enumeration `a, b, and c`": [
        Rewrite(
            "The farm produces {wheat, barley, and oats} for the towns nearby.",
            "The valley supplies {copper, silver, and zinc} to the ports on the coast.",
            "The farm produces {wheat instead of barley} for the towns nearby.",
            "The farm produces {wheat, which it sells} for the towns nearby.",
        ),
        Rewrite(
            "Her early paintings are {bright, loose, and playful} in their use of colour.",
            "His later novels are {dark, slow, and bitter} in their view of the war.",
            "Her early paintings are {bright where others are loose} in their use of colour.",
            "Her early paintings are {bright, though she disliked} their use of colour.",
        ),
        Rewrite(
            "The disease affects {cattle, sheep, and goats} in most of the region.",
            "The tax concerns {salt, sugar, and tea} in all of the provinces.",
            "The disease affects {cattle that graze with sheep} in most of the region.",
            "The disease affects {cattle, as was feared} in most of the region.",
        ),
        Rewrite(
            "Visitors can see {temples, gardens, and markets} in the old quarter.",
            "Students may choose {music, drama, and dance} in the second year.",
            "Visitors can see {temples behind the gardens} in the old quarter.",
            "Visitors can see {temples, if they ask} in the old quarter.",
        ),
        Rewrite(
            "The committee was {small, divided, and powerless} for many years.",
            "The journey was {long, costly, and dangerous} at that time.",
            "The committee was {small because it was divided} for many years.",
            "The committee was {small, but met often} for many years.",
        ),
        Rewrite(
            "The museum keeps {coins, maps, and letters} from the colonial period.",
            "The shop sells {hats, gloves, and belts} of the latest fashion.",
            "The museum keeps {coins found under maps} from the colonial period.",
            "The museum keeps {coins, because it owns land} from the colonial period.",
        ),
    ],
    "enumeration of names `A, B, C`": [
        Rewrite(
            "The league has clubs in {Spain, Portugal, Italy, and Greece} this season.",
            "The company has offices in {Peru, Chile, Brazil, and Bolivia} this year.",
            "The league has clubs in {Spain that beat Portugal} this season.",
            "The league has clubs in {Spain, where it began} this season.",
        ),
        Rewrite(
            "He corresponded with {Euler, Lagrange, Laplace, and Gauss} on this question.",
            "She performed with {Miller, Brown, Jones, and Carter} in those days.",
            "He corresponded with {Euler before Lagrange} on this question.",
            "He corresponded with {Euler, who was blind} on this question.",
        ),
        Rewrite(
            "The road passes through {Mobile, Montgomery, Birmingham, and Huntsville} on its way north.",
            "The railway stops at {Lyon, Avignon, Marseille, and Nice} on its way south.",
            "The road passes through {Mobile because Montgomery} is closed on its way north.",
            "The road passes through {Mobile, then turns} on its way north.",
        ),
        Rewrite(
            "The treaty was signed by {France, Britain, Prussia, and Austria} in the spring.",
            "The cup was won by {Ajax, Porto, Chelsea, and Milan} in those years.",
            "The treaty was signed by {France against Britain} in the spring.",
            "The treaty was signed by {France, although late} in the spring.",
        ),
        Rewrite(
            "The gods {Zeus, Hera, Apollo, and Athena} appear in the first book.",
            "The planets {Venus, Mars, Jupiter, and Saturn} appear in the evening sky.",
            "The god {Zeus deceives Hera} in the first book.",
            "The god {Zeus, in disguise}, appears in the first book.",
        ),
        Rewrite(
            "It is spoken in {Kenya, Uganda, Rwanda, and Tanzania} by farmers.",
            "It is grown in {Texas, Georgia, Florida, and Alabama} by families.",
            "It is spoken in {Kenya near Uganda} by farmers.",
            "It is spoken in {Kenya, mostly} by farmers.",
        ),
    ],
    "institution (ABBREVIATION)": [
        Rewrite(
            "He later joined the {International Labour Organization (ILO)} as an adviser.",
            "She later led the {World Health Organization (WHO)} as its director.",
            "He later joined the {international organization for labour} as an adviser.",
            "He later joined the {old school (a small one)} as an adviser.",
        ),
        Rewrite(
            "The report of the {National Science Foundation (NSF)} was published in May.",
            "The budget of the {European Space Agency (ESA)} was approved in June.",
            "The report of the {national foundation for science} was published in May.",
            "The report of the {second group (on page nine)} was published in May.",
        ),
        Rewrite(
            "Records are kept by the {Federal Bureau of Investigation (FBI)} in the capital.",
            "Prices are set by the {Bank of International Settlements (BIS)} in the city.",
            "Records are kept by the {federal office that investigates} in the capital.",
            "Records are kept by the {local office (on paper)} in the capital.",
        ),
        Rewrite(
            "It was founded by the {American Chemical Society (ACS)} after the war.",
            "It was funded by the {British Broadcasting Corporation (BBC)} after the strike.",
            "It was founded by the {chemists of American society} after the war.",
            "It was founded by the {same people (it seems)} after the war.",
        ),
        Rewrite(
            "Members of the {European Economic Community (EEC)} were arrested.",
            "Workers of the {United Mine Union (UMU)} were dismissed.",
            "Members of the {economic community of Europe} were arrested.",
            "Members of the {other party (about forty)} were arrested.",
        ),
        Rewrite(
            "The plan came from the {Central Intelligence Agency (CIA)} in those years.",
            "The money came from the {Asian Development Bank (ADB)} in most cases.",
            "The plan came from the {agency for central intelligence} in those years.",
            "The plan came from the {younger men (never named)} in those years.",
        ),
    ],
    "quotation of at least 20 characters": [
        Rewrite(
            'He told the reporters, {"there is no reason to be afraid of the truth"}, and left the room.',
            'She told the students, {"there are many ways to look at a stone"}, and closed the book.',
            "He told the reporters {that there was no reason to be afraid of the truth} and left the room.",
            'He told the reporters, {of a 12" screen}, and left the room.',
        ),
        Rewrite(
            'The critic called it {"the most honest film of the whole decade"} in his review.',
            'The mayor called it {"the best news for this town in years"} in her speech.',
            "The critic called it {the most honest film of the whole decade} in his review.",
            'The critic called it {a 7" single} in his review.',
        ),
        Rewrite(
            'The letter says {"we have neither bread nor water for the winter"} and asks for help.',
            'The notice says {"the bridge is closed to carts and horses"} and names a fine.',
            "The letter says {that they have neither bread nor water for the winter} and asks for help.",
            'The letter says {that a 3" pipe} is missing and asks for help.',
        ),
        Rewrite(
            'Marx wrote that {"the history of society is a history of struggle"} in this text.',
            'Darwin wrote that {"the fittest are seldom the strongest of a kind"} in this note.',
            "Marx wrote that {the history of society is a history of struggle} in this text.",
            'Marx wrote that {a 5" nail} will do in this text.',
        ),
        Rewrite(
            'According to the court, {"a promise that was made in public is binding"}, so he paid.',
            'According to the guide, {"a road that is built on sand will sink"}, so they waited.',
            "According to the court, {a promise that was made in public is binding}, so he paid.",
            'According to the court, {the 2" gap} was binding, so he paid.',
        ),
        Rewrite(
            'The poem begins {"in the silent hour before the morning"} and ends with a prayer.',
            'The song begins {"on the dusty road to the mountains"} and ends with a dance.',
            "The poem begins {in the silent hour before the morning} and ends with a prayer.",
            'The poem begins {with an 8" gun} and ends with a prayer.',
        ),
    ],
    "date with day and month": [
        Rewrite(
            "The battle was fought on {14 March 1871} near the river.",
            "The school was opened on {9 October 1926} near the station.",
            "The battle was fought on {the march of 1871} near the river.",
            "The battle was fought on {14 hills of 1871 metres} near the river.",
        ),
        Rewrite(
            "He died in Paris on {2 May 1933} after a long illness.",
            "She married in Rome on {27 June 1951} after a short engagement.",
            "He died in Paris on {his way in 1933} after a long illness.",
            "He died in Paris on {2 streets in 1933} after a long illness.",
        ),
        Rewrite(
            "On {July 4, 1862}, the army crossed the border.",
            "On {August 19, 1907}, the bank closed its doors.",
            "In {the middle of 1862}, the army crossed the border.",
            "On {4 roads, 1862 men} crossed the border.",
        ),
        Rewrite(
            "The law was passed on {3 September 1948} by a large majority.",
            "The ship was lost on {21 January 1889} with all her crew.",
            "The law was passed on {third reading in 1948} by a large majority.",
            "The law was passed on {3 votes in 1948} by a large majority.",
        ),
        Rewrite(
            "The election of {12 November 1918} changed the parliament.",
            "The earthquake of {6 April 1894} damaged the church.",
            "The election of {that year, 1918,} changed the parliament.",
            "The election of {12 men in 1918} changed the parliament.",
        ),
        Rewrite(
            "The first issue appeared on {1 December 1965} in London.",
            "The last train ran on {28 February 1972} in Wales.",
            "The first issue appeared on {request in 1965} in London.",
            "The first issue appeared on {1 page in 1965} in London.",
        ),
    ],
    "passive with its agent `was written by`": [
        Rewrite(
            "The opera {was written by} a student of the master.",
            "The bridge {was designed by} an engineer from the north.",
            "The opera {was written for} a student of the master.",
            "The opera {house stands by} a student of the master.",
        ),
        Rewrite(
            "The village {was destroyed by} soldiers on the retreat.",
            "The forest {was cleared by} settlers on the frontier.",
            "The village {was destroyed near} soldiers on the retreat.",
            "The village {stood close by} soldiers on the retreat.",
        ),
        Rewrite(
            "The proposal {was rejected by} the council last week.",
            "The prisoner {was pardoned by} the queen last year.",
            "The proposal {was rejected before} the council last week.",
            "The proposal {lay by} the council last week.",
        ),
        Rewrite(
            "The island {was discovered by} sailors from the east.",
            "The method {was developed by} chemists from the city.",
            "The island {was discovered with} sailors from the east.",
            "The island {lies by} sailors from the east.",
        ),
        Rewrite(
            "The tower {was struck by} lightning in the night.",
            "The king {was killed by} a servant in the bath.",
            "The tower {was struck during} lightning in the night.",
            "The tower {stands by} lightning in the night.",
        ),
        Rewrite(
            "The album {was produced by} the singer in a small studio.",
            "The journal {was founded by} the poet in a small town.",
            "The album {was produced without} the singer in a small studio.",
            "The album {sits by} the singer in a small studio.",
        ),
    ],
}
