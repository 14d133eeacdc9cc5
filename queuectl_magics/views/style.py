"""How the markup looks: one small style sheet, made from the table of looks.

The sheet may vanish (JupyterLab drops it from notebooks that are not trusted, GitHub always), so
nothing may depend on it. The rules here: every class begins with `qm-`; text, lines and grounds
are mixed from the colour that the page has already, so that any theme fits; only the colours of
the states know light from dark, and they ask the notebook: JupyterLab does not follow the system.
"""

from __future__ import annotations

from queuectl_magics.views.words import LOOKS

DARK = (
    '[data-jp-theme-light="false"]',
    "body.vscode-dark",
    "body.vscode-high-contrast:not(.vscode-high-contrast-light)",
    'html[theme="dark"]',
    '[data-theme="dark"]',
)

_SHEET = """
.qm{container-type:inline-size;font:13px/1.5 var(--jp-ui-font-family,system-ui,sans-serif);
font-variant-numeric:tabular-nums;text-align:left;margin:2px 0;
--qm-line:color-mix(in srgb,currentColor 16%,transparent);
--qm-quiet:color-mix(in srgb,currentColor 74%,transparent)}
.qm.qm.qm code{padding:0}
.qm.qm b+code{margin-left:3px}
.qm.qm code,.qm.qm pre{font:12px/1.5 var(--jp-code-font-family,ui-monospace,monospace);
color:inherit;background:none!important;padding:0;border:0;white-space:pre}
.qm.qm code,.qm.qm b{unicode-bidi:isolate}
.qm.qm .qm-quiet,.qm.qm caption,.qm.qm thead th,.qm.qm .qm-facts th{color:var(--qm-quiet);
font-weight:400}
.qm.qm .qm-state{color:var(--qm-s);white-space:nowrap;display:inline-block;font-weight:500;
font-size:12px;line-height:18px;padding:0 7px;border-radius:9px;
border:1px solid color-mix(in srgb,var(--qm-s) 35%,transparent);
background:color-mix(in srgb,var(--qm-s) var(--qm-tint,10%),transparent)}
.qm.qm .qm-none{border-style:dashed;background:none}
.qm.qm progress{width:72px;height:6px;vertical-align:middle;accent-color:var(--qm-s,currentColor)}
.qm.qm p{margin:4px 0 6px;display:flex;flex-wrap:wrap;align-items:center;gap:4px 8px}
.qm.qm .qm-line{display:flex;flex-wrap:wrap;align-items:center;gap:2px 8px}
.qm.qm .qm-line>*{min-width:0;max-width:100%}
.qm.qm .qm-who,.qm.qm .qm-last,.qm.qm .qm-last summary{overflow:hidden;white-space:nowrap;
text-overflow:ellipsis}
.qm.qm .qm-last{flex:1 1 160px;color:var(--qm-quiet)}
.qm.qm .qm-last[open]{flex-basis:100%}
.qm.qm summary{cursor:pointer}
.qm.qm pre{margin:4px 0;padding:6px 10px;border:1px solid var(--qm-line);border-radius:4px;
max-height:240px;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere}
.qm.qm .qm-facts pre{border:0;padding:0;margin:0}
.qm.qm table{border-collapse:collapse;border:0;margin:0 0 4px;width:100%;font-size:13px;
table-layout:auto}
.qm.qm .qm-facts,.qm.qm .qm-workers{width:auto}
.qm.qm caption{caption-side:bottom;text-align:left;padding:4px 8px;font-size:12px}
.qm.qm .qm-attempts caption{caption-side:top}
.qm.qm tr:nth-child(n){background:none;border:0;border-bottom:1px solid var(--qm-line)}
.qm.qm .qm-facts tr:nth-child(n){border:0}
.qm.qm tbody tr:nth-child(n):hover{background:color-mix(in srgb,currentColor 5%,transparent)}
.qm.qm th,.qm.qm td{text-align:left;vertical-align:baseline;padding:3px 8px;border:0;
max-width:none;white-space:nowrap}
.qm.qm thead th{font-size:12px}
.qm.qm tbody th{font-weight:600}
.qm.qm .qm-number{text-align:right}
.qm.qm td.qm-wrap{white-space:normal;overflow-wrap:anywhere;min-width:130px}
.qm.qm .qm-wrap code{white-space:pre-wrap}
.qm.qm td.qm-why{min-width:210px}
.qm.qm .qm-scroll{overflow-x:auto}
@container (max-width:560px){
.qm.qm .qm-jobs,.qm.qm .qm-jobs tbody,.qm.qm .qm-jobs caption{display:block}
.qm.qm .qm-jobs thead,.qm.qm .qm-jobs .qm-spare,.qm.qm .qm-jobs td:empty{display:none}
.qm.qm .qm-jobs tr{display:flex;flex-wrap:wrap;align-items:baseline;padding:4px 0}
.qm.qm .qm-jobs tbody th,.qm.qm .qm-jobs td{padding:1px 8px 1px 0;box-sizing:border-box}
.qm.qm .qm-jobs td.qm-wrap{flex:1 0 100%}
.qm.qm .qm-facts th{padding-left:0}
.qm.qm .qm-who{flex:1 1 120px}
}
"""


def _colours(dark: bool) -> str:  # noqa: FBT001 - one of two columns of the table
    fronts = [f"{front} " for front in DARK] if dark else [""]
    rules = [
        f"{','.join(f'{front}.qm .{look.css}' for front in fronts)}"
        f"{{--qm-s:{look.dark if dark else look.light}}}"
        for look in LOOKS.values()
    ]
    if dark:
        rules.append(f"{','.join(f'{front}.qm' for front in fronts)}{{--qm-tint:14%}}")
    return "".join(rules)


STYLE = f"<style>{_SHEET.strip()}{_colours(dark=False)}{_colours(dark=True)}</style>"
