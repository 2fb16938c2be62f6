"""Names of what comes with the package, for those who list it without loading it, as ``sdscm --help`` does."""

# What ``families.family`` finds by name, and ``audit.audit_spec``.
FAMILIES = ("oncology", "hiring", "confounder", "collider", "clinical_note", "reference_letter", "court", "school")
AUDITS = ("hiring", "hiring_gender", "triage", "headline", "loan", "reference_letter")
