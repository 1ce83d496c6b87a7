"""Tables of the canonical form: contractions, words whose capitals mean something, small words of other languages."""

from __future__ import annotations

from hasten.cache.semantic.spelling import AMERICAN
from hasten.cache.semantic.words import listed

_HOSTS = listed("what who where when why how it that there here he she everything something nobody everyone")
_WILL = listed("i you he she it we they there that what who this")
#: Spelt with "n't", or in haste with "nt".
_NOT = listed("do does did is are was were has have had could would should must need might")


def _contractions() -> dict[str, str]:
    table = {f"{host}'s": f"{host} is" for host in _HOSTS}
    table |= {f"{host}'ll": f"{host} will" for host in _WILL}
    table |= {f"{host}'ve": f"{host} have" for host in (*_WILL, "should", "could", "would", "must", "might")}
    table |= {
        f"{host}'re": f"{host} are" for host in ("you", "we", "they", "what", "who", "where", "how", "there")
    }
    table |= {f"{verb}n't": f"{verb} not" for verb in _NOT} | {f"{verb}nt": f"{verb} not" for verb in _NOT}
    table |= {
        "i'm": "i am",
        "can't": "can not",
        "cannot": "can not",
        "won't": "will not",
        "shan't": "shall not",
    }
    table |= {
        "let's": "let us",
        "y'all": "you all",
        "'til": "until",
        "how'd": "how did",
        "where'd": "where did",
    }
    # Without the apostrophe: only where no other word is meant ("its", "were", "well", "ill", "id", "shed" stay).
    table |= {
        "whats": "what is",
        "wheres": "where is",
        "whens": "when is",
        "hows": "how is",
        "whos": "who is",
    }
    table |= {"thats": "that is", "theres": "there is", "heres": "here is", "im": "i am", "ive": "i have"}
    table |= {
        "youre": "you are",
        "theyre": "they are",
        "youve": "you have",
        "theyve": "they have",
        "weve": "we have",
    }
    table |= {
        "youll": "you will",
        "theyll": "they will",
        "cant": "can not",
        "wont": "will not",
        "shouldve": "should have",
    }
    table |= {
        "gonna": "going to",
        "wanna": "want to",
        "plz": "please",
        "pls": "please",
        "thx": "thanks",
        "thanx": "thanks",
    }
    table |= {"somebody": "someone", "anybody": "anyone", "everybody": "everyone", "an": "a"}
    del table["neednt"], table["mightnt"]
    return table


#: Lower-case word -> the same, spelt out or in American spelling.
SAME_WORD: dict[str, str] = AMERICAN | _contractions()

#: Written with dots.
DOTTED = {
    "u.s": "US",
    "u.s.a": "usa",
    "u.k": "uk",
    "p.m": "pm",
    "a.m": "am",
    "d.c": "dc",
    "e.u": "eu",
    "u.n": "un",
}
ABBREVIATED = listed(
    """
    dr mr mrs ms st mt vs e.g i.e p.m a.m approx inc ltd jr sr u.s u.k u.s.a d.c etc
    """
)

#: All in capitals these are names or codes, in small letters ordinary words: their case is kept.
CODES = listed(
    """
    US IT WHO AIDS PIN PET CAT SAT SAD ICE TIN SNAP STEM SMART GAP MAP ACT MET PIP APR SEP COP ADD MAN ERA ART
    BAR CAD CAP COD EAR FAT FIT HIT HOT JAR LAB LAP LAW LIT LOT MEN NUT OIL PAN PAT PEP PEN RAT RIP ROW SAP SEA
    SET SIP SOP SPA TAN TAR TIP VAN WAR COPE CARE HEAT HOPE LIFT PACE RICE TEAM WISE DARE ASPIRE BASIC SWIFT
    RUST GO OR IN ME HI PA LA MA CO DO OD AM IS AS AN AT BE BY IF MY NO OF ON SO TO UP WE MASH START SPAM SAGE
    REST SOAP CORS RAID ACID SOLID DRY KISS CAR DOG BUS CAB GAS FAR EAT END HER HIS ITS LET OUR OUT SEE WAS NEST
    MOLE DASH FAST MINT BEAM MS MR AD ADS AID AIM AIR ALE APE ARC ARM ASH ASK BAD BAG BAT BED BEE BET BID BIG
    BIN BIT BOX BOY BUG BUY CAN COW CRY CUP CUT DAD DAY DEN DIE DIG DIM DIP DOT DUE EGG EGO ELF ELM EYE FAN FED
    FEE FEW FIG FIN FIX FLY FOG FOX FUN FUR GEM GUM GUN GUY HAM HAT HAY HEN HIP HOP HUB HUG HUT INK INN JAM JAW
    JET JOB JOY KEG KEY KID KIN LEG LID LIP LOG LOW MAD MAT MIX MOB MOM MUD MUG NET NOD ODD OWL OWN PAD PAW PAY
    PEA PIE PIG PIT POD POP POT PUB RAG RAM RAP RAW RED RIB RUB RUG RUN SEW SKI SKY SON SUE SUM SUN TAB TAG TAP
    TAX TEA TEN TIE TOE TON TOP TOY TUB VET VOW WAX WEB WET WIG WIN ZIP ZOO BASE BOLD BOOM CALM CAMP CHAP CHIP
    COIN COLA CREST DEAL EAST FACT FATE FIRE FLAG GAIN GOAL GRIT HALT HERO HIVE IDEA IRIS LAMP LEAP LIME LINE
    LOOP MARS MAST MEAN MIND NICE PALM PATH PEAR PEST PLAN POEM PORT PRIDE RACE RAIN SAFE SAVE SCAN SEAL SHIP
    SIGN SITE STAR STEP STORM SWOT TASK TIDE TREE UNIT WAVE WEST WIRE ZONE MW PH OS
    """
)

#: With a capital inside a sentence these are names, in small letters ordinary words: their case is kept.
NAMES = listed(
    """
    Polish Turkey China May March August Mark Will Bill Apple Windows Word Target Visa Rust Swift Bath Reading
    Nice Orange Chase Sky Ring Nest Signal Notion Square Stripe Discover Mint Edge Access Outlook Pages Numbers
    Photos Messages Notes Teams Meet Drive Forms Slack Shell Gap Boots Next Wise Lime Bolt Bird Ray Rose Lily
    Daisy Ivy Hope Faith Grace Joy Jack Bob Rob Sue Pat Pam Art Frank Grant Chuck Drew Nick Penny Pierce Ruby
    Sandy Hunter Mason Miles Chad Guinea Chile Georgia Jersey Cork Split Mobile Phoenix Buffalo Cologne
    Champagne Lead Mercury Earth Cancer Lent Advent Acts Kings Judges Congress House Senate Labor Labour Green
    Greens Democrat Republican Catholic Liberal Conservative Queen Cream Train Focus Golf Polo Beetle Mini Smart
    Seat Ram Jaguar Puma Mustang Echo Dot Switch Surface Galaxy Prime Music Maps Mail Home Calendar Contacts
    Reminders Health Wallet Watch Publisher Project Chat Spaces Stories Reels Threads Marketplace Risk Operation
    Go Monopoly Canvas Brave Opera Ruby Rails Spring Flask Express Node Ember Spark Beam Puppet Chef Salt Dart
    Crystal Scratch Latex Ant Bower Yarn Make Fire Tide Dove Crest Iceland Subway Delta United Spirit Frontier
    Virgin Southwest Wash Downs Peak Lakes Fall Mass Lions Giants Saints Bears Bulls Rockets Heat Magic Suns
    Nets Jets Rams Cardinals Eagles Falcons Ravens Dolphins Panthers Tigers Twins Angels Stars Ducks Sharks
    Wolves Hornets Wasps Saracens Internet
    """
)
#: Of these the ones that "in" and "on" before, or a number beside them, show to be meant whatever the capitals.
CLEAR = listed(
    """
    May March August Windows Word Outlook Teams Slack China Turkey Photos Access Chile Georgia
    """
)

#: Two letters with a capital that are titles, not symbols or names.
TITLES = listed("Mr Dr Ms St Mt Pc Tv Uk Eu Ai Ok Id Vs")

#: In a text that speaks of one of these, capitals may belong to the language: Map and map, String and string.
PROGRAMMING = listed(
    """
    python java javascript typescript js ts c c++ c# golang rust ruby php perl scala kotlin swift sql mysql
    postgres postgresql haskell lua julia matlab bash shell html css react angular vue django node numpy pandas
    programming code function method class api json xml yaml regex dart flutter vba latex tex
    """
)
#: Small words that show that a text is English, and those of other languages.
ENGLISH = listed(
    """
    the what how is do i my to of can for and where when why which who with your are does did will would should
    could not it this that have has be from you we if by or was were any there need get much many long what's
    how's where's i'm don't can't it's i'd whats dont cant im please
    """
)
FOREIGN = listed(
    """
    der das und ist wie ich ein eine nicht mit für wann wer warum bitte den dem auf bei von zu wir sind kann
    mein el la que como los las una por para con qué cómo dónde cuándo es está puedo mi se del un le les des est
    une et je ne pas vous nous où comment quand pourquoi quel quelle quels mon ma dans sur pour avec il di che
    non sono come dove quando perché quanto posso gli della een het ik van hoe wat waar wanneer kan met voor
    niet o os um uma não é onde eu meu och att jag är hur vad kun ja jeg hvordan hvad hvor
    """
)

#: What speaks of words themselves, or of capitals: such a text is hardly touched.
META = listed(
    """
    spell spelled spelt spelling spellings pronounce pronounced pronunciation word words grammar grammatical
    grammatically sentence sentences phrase phrases letter letters syllable syllables rhyme rhymes rhyming
    synonym synonyms antonym antonyms mean means meaning meanings stand stands etymology plural singular
    abbreviation abbreviations acronym acronyms translate translation translated noun nouns verb verbs adjective
    adverb punctuation apostrophe apostrophes hyphen hyphens hyphenated capitalise capitalize
    capitalised capitalized uppercase lowercase character characters typo typos contraction
    contractions say saying says said define definition idiom idioms slang lyrics lyric song titled quote emoji
    write written greeting polite politely digits digit numeral numerals thank thanking apologise apologize sang
    sung
    """
)

#: Requests that work on a given text or make one: hardly touched either.
WORKS_ON_TEXT = listed(
    """
    write rewrite rephrase paraphrase translate summarise summarize shorten correct proofread edit draft compose
    generate create continue complete classify extract reverse count convert format fix improve simplify expand
    spell capitalise capitalize debug refactor review reply respond turn describe act pretend imagine solve
    compute evaluate
    """
)
#: What may stand before such a request.
ASKING = listed(
    """
    hi hiya hello hey there good morning afternoon evening please pls kindly can could would will you help me i
    need want like to ok okay so um uh now just sorry i'd
    """
)

#: With a capital, in a text about programming, these may be types: Map and map, String and string.
TYPES = listed(
    """
    Map Set List Object String Array Date Number Boolean Promise Function Symbol Class Type Record Any None Some
    True False Optional Error Exception Component Fragment Context State Table Column Index View Integer Double
    Float Long Char Byte Void Null Proxy Buffer Stream Event Request Response Path File Thread Task Future Match
    Option Result Box Vec Dict Tuple Counter Series Frame Iterator Iterable Enum Struct Interface Module Package
    """
)
