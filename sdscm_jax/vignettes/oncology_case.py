"""A breast cancer case in fourteen sentences; the mechanisms are plausible, not medical advice.

Long because it is a table: ten wordings and a mechanism for each of fourteen sentences, and nothing else.
"""

from __future__ import annotations

from .scm import Variable, Vignette

_GENES = ("TP53", "PIK3CA", "BRCA1", "BRCA2")

_AGE = Variable(
    "age",
    ("25", "35", "45", "55", "65", "75", "85"),
    (
        "A {}-year-old woman arrives at the oncology clinic.",
        "This {}-year-old woman visits the clinic.",
        "The {}-year-old patient visits the clinic.",
        "The oncology clinic sees this {}-year-old woman today.",
        "Today the doctor sees the {}-year-old patient.",
        "At the clinic, the doctor meets this {}-year-old woman.",
        "The next patient is this {}-year-old woman.",
        "The tumor was found in this {}-year-old woman.",
        "This case is about the {}-year-old patient with cancer.",
        "The oncology team is caring for this {}-year-old patient.",
    ),
    base=(-0.7, -0.2, 0.1, 0.3, 0.3, 0.0, -0.5),  # breast cancer is most common in middle age
    exogenous=True,
)

_CONDITIONS = Variable(
    "medical conditions",
    ("hypertension", "type 2 diabetes mellitus", "hyperlipidemia", "osteoporosis"),
    (
        "Her main medical condition is {}.",
        "Her other medical problem is {}.",
        "Before the cancer, her medical condition was {}.",
        "Her medical history shows that she has {}.",
        "The doctor notes that her medical condition is {}.",
        "Apart from the cancer, she suffers from {}.",
        "For some years her medical condition has been {}.",
        "Her medical records show a history of {}.",
        "Some years ago, doctors told her she had {}.",
        "The notes on her medical history mention {}.",
    ),
    base=(0.3, 0.1, 0.3, -0.4),
    effects={
        "age": {
            "25": (-0.4, 0.4, 0.3, -1.2),  # bones are strong, blood pressure is low in youth
            "35": (-0.3, 0.3, 0.3, -0.9),  # much as at 25
            "45": (-0.1, 0.2, 0.2, -0.4),  # metabolic conditions come first
            "55": (0.1, 0.1, 0.1, 0.1),  # bone loss begins about menopause
            "65": (0.2, 0.0, 0.0, 0.6),  # bone loss and blood pressure rise
            "75": (0.3, -0.1, -0.1, 1.0),  # bone loss goes on
            "85": (0.3, -0.2, -0.2, 1.3),  # bone loss is most common in old age
        },
    },
    exogenous=True,
)

_MEDICATION = Variable(
    "medication",
    ("lisinopril", "metformin", "atorvastatin", "calcium carbonate"),
    (
        "For this condition she takes {} every day.",
        "Her daily medication for it is {}.",
        "The medication that she takes is {}.",
        "Her doctor treats this condition with {}.",
        "To treat this condition, she takes {}.",
        "The drug in her medication list is {}.",
        "Her doctor gave her a medication called {}.",
        "The medication that helps her is {}.",
        "Every day she takes the drug {}.",
        "She keeps this condition under control with {}.",
    ),
    base=(0.0, 0.0, 0.1, 0.0),
    effects={
        "medical conditions": {
            "hypertension": (1.6, -0.9, -0.8, -0.9),  # lisinopril lowers blood pressure
            "type 2 diabetes mellitus": (-0.8, 1.6, -0.8, -0.9),  # metformin lowers blood sugar
            "hyperlipidemia": (-0.8, -0.9, 1.5, -0.9),  # atorvastatin lowers blood fats
            "osteoporosis": (-0.8, -0.9, -0.9, 1.5),  # calcium is for the bones
        },
    },
    exogenous=True,
)

_MENOPAUSE = Variable(
    "menopausal status",
    ("pre-menopausal", "post-menopausal"),
    (
        "Her menopausal status is recorded as {}.",
        "The doctor notes her menopausal status as {}.",
        "By her menopausal status, she is {}.",
        "The records say her menopausal status is {}.",
        "As for her menopausal status, she is {}.",
        "For now her menopausal status is {}.",
        "When asked about menopause, she says she is {}.",
        "With regard to menopause, the woman is {}.",
        "The clinic lists her menopausal status as {}.",
        "Her stage of menopause is described as {}.",
    ),
    base=(0.0, 0.0),
    effects={
        "age": {
            "25": (1.4, -1.4),  # menopause at this age is rare
            "35": (1.2, -1.2),  # early menopause only
            "45": (0.6, -0.6),  # menopause begins for some
            "55": (-0.7, 0.7),  # most are past it
            "65": (-1.2, 1.2),  # nearly all are past it
            "75": (-1.35, 1.35),  # as at 65
            "85": (-1.4, 1.4),  # what is left is errors in the records
        },
    },
    exogenous=True,
)

_CARCINOMA = Variable(
    "carcinoma",
    (
        "invasive ductal carcinoma (IDC)",
        "invasive lobular carcinoma",
        "medullary carcinoma",
        "tubular carcinoma",
    ),
    (
        "The type of carcinoma found is {}.",
        "The biopsy shows that the tumor is {}.",
        "The type of the tumor is {}.",
        "Under the microscope, the tumor type is {}.",
        "The biopsy names the tumor type as {}.",
        "The doctor says that the cancer type is {}.",
        "The tumor in her breast is {}.",
        "Her breast cancer is of the type {}.",
        "The lab report gives the tumor type as {}.",
        "Her type of breast cancer is {}.",
    ),
    base=(0.9, 0.1, -0.5, -0.5),  # ductal carcinoma is the common type
    effects={
        "age": {
            "25": (0.0, -0.4, 0.8, -0.5),  # medullary tumors are a disease of the young
            "35": (0.0, -0.3, 0.6, -0.3),  # as at 25, weaker
            "45": (0.0, -0.1, 0.3, -0.1),  # weaker again
            "55": (0.0, 0.0, 0.0, 0.0),  # the reference age
            "65": (0.0, 0.1, -0.2, 0.2),  # slow tumors become more common
            "75": (0.0, 0.2, -0.4, 0.3),  # as at 65, stronger
            "85": (0.0, 0.3, -0.5, 0.4),  # as at 75, stronger
        },
        "menopausal status": {
            "post-menopausal": (0.0, 0.4, -0.2, 0.1),  # lobular tumors come with later age
        },
    },
)

_GRADE = Variable(
    "histology grade",
    ("grade 1", "grade 2", "grade 3"),
    (
        "The histology of the tumor is {}.",
        "In its histology the tumor is {}.",
        "The histology report gives the tumor {}.",
        "The lab rates the histology as {}.",
        "By its histology the cancer is {}.",
        "The histology grade was found to be {}.",
        "The histology of this cancer was rated {}.",
        "The tumor histology is described as {}.",
        "The report lists the histology as {}.",
        "The lab says that the histology is {}.",
    ),
    base=(-0.1, 0.4, 0.2),
    effects={
        "carcinoma": {
            "invasive ductal carcinoma (IDC)": (-0.2, 0.1, 0.3),  # often of a middle or high grade
            "invasive lobular carcinoma": (0.1, 0.4, -0.3),  # mostly grade 2
            "medullary carcinoma": (-0.6, -0.1, 0.9),  # its cells look wild: grade 3
            "tubular carcinoma": (1.2, 0.1, -0.9),  # well ordered cells: grade 1
        },
        "age": {
            "25": (-0.5, 0.0, 0.6),  # tumors of the young grow fast
            "35": (-0.4, 0.0, 0.4),  # as at 25, weaker
            "45": (-0.2, 0.0, 0.2),  # weaker again
            "55": (0.0, 0.0, 0.0),  # the reference age
            "65": (0.2, 0.0, -0.2),  # tumors of the old grow slowly
            "75": (0.3, 0.0, -0.3),  # as at 65, stronger
            "85": (0.4, 0.0, -0.4),  # as at 75, stronger
        },
    },
)

_MUTATION_1 = Variable(
    "mutation 1",
    _GENES,
    (
        "The first mutation is in the {} gene.",
        "The first gene with a mutation is {}.",
        "The lab finds a first mutation in {}.",
        "A first mutation was found in the {} gene.",
        "The first mutation of the tumor is in {}.",
        "Genetic testing first finds a mutation in {}.",
        "The first genetic test shows a mutation in {}.",
        "The first mutated gene in the tumor is {}.",
        "First, the tumor has a mutation in {}.",
        "The report lists the first mutation as {}.",
    ),
    base=(0.2, 0.3, -0.2, -0.1),
    effects={
        "age": {
            "25": (0.0, -0.5, 0.7, 0.4),  # inherited BRCA mutations show early
            "35": (0.0, -0.3, 0.5, 0.3),  # as at 25, weaker
            "45": (0.0, -0.1, 0.3, 0.2),  # weaker again
            "55": (0.0, 0.0, 0.0, 0.0),  # the reference age
            "65": (0.0, 0.2, -0.2, -0.1),  # PIK3CA mutations build up with age
            "75": (0.0, 0.4, -0.3, -0.1),  # as at 65, stronger
            "85": (0.0, 0.5, -0.4, -0.2),  # as at 75, stronger
        },
        "carcinoma": {
            "invasive lobular carcinoma": (-0.3, 0.5, -0.2, 0.2),  # lobular tumors favor PIK3CA
            "medullary carcinoma": (0.3, -0.4, 0.6, 0.0),  # medullary tumors go with BRCA1
            "tubular carcinoma": (-0.4, 0.4, -0.2, 0.0),  # quiet tumors seldom have TP53
        },
        "histology grade": {
            "grade 1": (-0.5, 0.4, -0.3, 0.0),  # a low grade goes with PIK3CA
            "grade 3": (0.6, -0.4, 0.4, 0.0),  # a high grade goes with TP53 and BRCA1
        },
    },
)

_MUTATION_2 = Variable(
    "mutation 2",
    _GENES,
    (
        "The second mutation is in the {} gene.",
        "The second gene with a mutation is {}.",
        "The lab finds a second mutation in {}.",
        "A second mutation was found in the {} gene.",
        "There is also a second mutation in {}.",
        "Genetic testing also finds a second mutation in {}.",
        "The tumor has a second mutation in the {} gene.",
        "The second mutated gene in the tumor is {}.",
        "The report lists the second mutation as {}.",
        "The second genetic test shows a mutation in {}.",
    ),
    base=(0.3, 0.2, -0.1, 0.0),
    effects={
        "mutation 1": {
            "TP53": (-1.3, 0.1, 0.5, 0.2),  # TP53 and BRCA1 often come together
            "PIK3CA": (0.2, -1.3, -0.2, 0.3),  # a second gene is seldom the same
            "BRCA1": (0.8, -0.2, -1.1, -0.1),  # BRCA1 tumors often lose TP53
            "BRCA2": (0.2, 0.5, -0.1, -1.2),  # BRCA2 tumors often have PIK3CA
        },
    },
)

_HORMONE = Variable(
    "hormone level",
    ("low", "moderate", "high"),
    (
        "The hormone level of the tumor is {}.",
        "The lab reports that the hormone level is {}.",
        "Tests show that her hormone level is {}.",
        "Her hormone level was measured as {}.",
        "The hormone test gives a {} level.",
        "The hormone level in the sample is {}.",
        "In the sample, the hormone level is {}.",
        "The hormone test of the tumor reads {}.",
        "The doctor finds the hormone level to be {}.",
        "The report lists the hormone level as {}.",
    ),
    base=(0.0, 0.2, 0.1),
    effects={
        "histology grade": {
            "grade 1": (-0.7, 0.0, 0.6),  # well ordered cells keep their hormone receptors
            "grade 3": (0.7, 0.0, -0.6),  # wild cells lose them
        },
        "menopausal status": {
            "pre-menopausal": (0.3, 0.0, -0.3),  # early tumors respond to hormones less often
            "post-menopausal": (-0.3, 0.0, 0.4),  # later tumors respond more often
        },
        "mutation 1": {
            "TP53": (0.3, 0.0, -0.3),  # TP53 goes with fewer hormone receptors
            "PIK3CA": (-0.4, 0.1, 0.4),  # PIK3CA goes with many
            "BRCA1": (0.6, 0.0, -0.4),  # BRCA1 tumors are often without receptors
            "BRCA2": (-0.1, 0.1, 0.2),  # BRCA2 tumors often keep them
        },
    },
)

_INSTABILITY = Variable(
    "genomic instability",
    ("low", "high"),
    (
        "The genomic instability of the tumor is {}.",
        "Its genomic instability was found to be {}.",
        "The genomic test shows instability that is {}.",
        "The level of genomic instability is {}.",
        "The lab rates the genomic instability as {}.",
        "Genomic instability in the sample is {}.",
        "The report lists the genomic instability as {}.",
        "Tests show that genomic instability is {}.",
        "The score for genomic instability is {}.",
        "The doctor finds the genomic instability to be {}.",
    ),
    base=(0.0, -0.1),
    effects={
        "mutation 1": {
            "TP53": (0.0, 0.5),  # TP53 guards the genome
            "PIK3CA": (0.0, -0.7),  # PIK3CA acts on growth, not on repair
            "BRCA1": (0.0, 0.7),  # BRCA1 repairs broken DNA
            "BRCA2": (0.0, 0.5),  # so does BRCA2
        },
        "mutation 2": {
            "TP53": (0.0, 0.4),  # as for the first mutation, weaker
            "PIK3CA": (0.0, -0.5),  # as for the first mutation, weaker
            "BRCA1": (0.0, 0.5),  # as for the first mutation, weaker
            "BRCA2": (0.0, 0.3),  # as for the first mutation, weaker
        },
        "histology grade": {
            "grade 1": (0.0, -0.7),  # ordered cells have a stable genome
            "grade 3": (0.0, 0.6),  # wild cells do not
        },
    },
)

_ABERRATION = Variable(
    "chromosomal aberration",
    ("significant", "minor"),
    (
        "The chromosomal aberration in the tumor is {}.",
        "The lab rates the chromosomal aberration as {}.",
        "The chromosomes show a {} aberration.",
        "The chromosomal test shows a {} aberration.",
        "Its chromosomal aberration was found to be {}.",
        "The report lists the chromosomal aberration as {}.",
        "Tests show that the chromosomal aberration is {}.",
        "Chromosomal aberration in the sample is {}.",
        "The doctor calls the chromosomal aberration {}.",
        "The level of chromosomal aberration is {}.",
    ),
    base=(0.0, 0.1),
    effects={
        "genomic instability": {
            "low": (-0.8, 0.0),  # a stable genome keeps its chromosomes
            "high": (1.1, 0.0),  # an unstable genome breaks them
        },
        "histology grade": {
            "grade 1": (-0.5, 0.0),  # ordered cells divide well
            "grade 3": (0.5, 0.0),  # wild cells divide badly
        },
    },
)

_HER2 = Variable(
    "HER2 status",
    ("positive", "negative"),
    (
        "The HER2 status of the tumor is {}.",
        "Its HER2 status was found to be {}.",
        "The HER2 test of the sample is {}.",
        "For HER2, the tumor has tested {}.",
        "The lab reports that HER2 status is {}.",
        "The report lists the HER2 status as {}.",
        "Tests show that the HER2 status is {}.",
        "The HER2 test came back as {}.",
        "The HER2 status in the sample is {}.",
        "The doctor finds the HER2 status to be {}.",
    ),
    base=(0.0, 0.3),  # most tumors are negative
    effects={
        "hormone level": {
            "low": (0.5, 0.0),  # HER2 tumors often have few hormone receptors
            "high": (-0.5, 0.0),  # and seldom many
        },
        "histology grade": {
            "grade 1": (-0.6, 0.0),  # slow tumors are seldom driven by HER2
            "grade 3": (0.6, 0.0),  # HER2 makes tumors grow fast
        },
    },
)

_PDL1 = Variable(
    "PD-L1 level",
    ("low", "high"),
    (
        "The tumor exhibits {} levels of PD-L1.",
        "The PD-L1 level of the tumor is {}.",
        "Its PD-L1 level was found to be {}.",
        "The PD-L1 test shows a {} level.",
        "The lab reports that PD-L1 is {}.",
        "The report lists the PD-L1 level as {}.",
        "Tests show that the PD-L1 level is {}.",
        "The PD-L1 level in the sample is {}.",
        "The doctor finds the PD-L1 level to be {}.",
        "The amount of PD-L1 in the tumor is {}.",
    ),
    base=(0.0, -0.1),
    effects={
        "age": {
            "25": (0.0, 1.1),  # a young immune system presses the tumor to hide
            "35": (0.0, 0.9),  # as at 25, weaker
            "45": (0.0, 0.5),  # weaker again
            "55": (0.0, -0.1),  # near the reference
            "65": (0.0, -0.6),  # immunity fades with age
            "75": (0.0, -0.9),  # as at 65, stronger
            "85": (0.0, -1.1),  # as at 75, stronger
        },
        "genomic instability": {
            "low": (0.0, -0.5),  # few mutations call few immune cells
            "high": (0.0, 0.6),  # many mutations call many, and PD-L1 rises
        },
        "HER2 status": {
            "positive": (0.0, -0.4),  # HER2 tumors rely on PD-L1 less
            "negative": (0.0, 0.4),  # PD-L1 is found more often without HER2
        },
    },
)

_THERAPY = Variable(
    "therapy",
    (
        "initiate an aromatase inhibitor therapy",
        "administer a combination of a PARP inhibitor and chemotherapy",
        "start a regimen of trastuzumab and pertuzumab",
        "begin treatment with a checkpoint inhibitor such as pembrolizumab",
    ),
    (
        "The best choice is to {}.",
        "The plan of the doctor is to {}.",
        "For her therapy, the doctor decides to {}.",
        "The next step in therapy is to {}.",
        "The right therapy now is to {}.",
        "The oncology team has decided to {}.",
        "To treat the cancer, doctors will {}.",
        "To help her, the doctor wants to {}.",
        "The therapy plan for her is to {}.",
        "To treat this tumor, the team will {}.",
    ),
    base=(0.1, 0.1, 0.2, 0.0),
    effects={
        "menopausal status": {
            "pre-menopausal": (-0.6, 0.3, 0.0, 0.4),  # aromatase inhibitors need ovaries at rest
            "post-menopausal": (0.8, 0.0, 0.0, -0.3),  # they work after menopause
        },
        "hormone level": {
            "low": (-0.5, 0.5, 0.0, 0.0),  # no hormones to take away: chemotherapy instead
            "high": (0.7, -0.3, 0.0, -0.1),  # tumors fed by hormones starve without them
        },
        "HER2 status": {
            "positive": (0.0, -0.2, 1.1, 0.0),  # trastuzumab and pertuzumab bind HER2
            "negative": (0.0, 0.4, -0.8, 0.0),  # without HER2 they have no target
        },
        "PD-L1 level": {
            "low": (0.1, 0.1, 0.1, -0.5),  # little PD-L1 leaves nothing to block
            "high": (-0.2, 0.0, -0.1, 1.1),  # pembrolizumab blocks the PD-L1 signal
        },
    },
)

oncology = Vignette(
    "oncology",
    (
        _AGE,
        _CONDITIONS,
        _MEDICATION,
        _MENOPAUSE,
        _CARCINOMA,
        _GRADE,
        _MUTATION_1,
        _MUTATION_2,
        _HORMONE,
        _INSTABILITY,
        _ABERRATION,
        _HER2,
        _PDL1,
        _THERAPY,
    ),
    treatment="PD-L1 level",
    outcome="therapy",
    hidden=("age", "medical conditions", "medication", "menopausal status"),
    given_all=True,
)
