"""What a cell may hold that would run, load or lead away if it were put into a page as it is; URL is a listener's."""

#: Lead away by themselves: no content policy stops that.
LEADING_AWAY = [
    '<svg><style><meta http-equiv="refresh" content="0; url=URL/svg-style"></style></svg>',
    '<!--><meta http-equiv="refresh" content="0; url=URL/comment">-->',
    '<!--><meta http-equiv="refresh" content="0; url=URL/open-comment">',
    '<meta http-equiv="refresh" content="0; url=URL/away">',
    '<math><style><meta http-equiv="refresh" content="0; url=URL/math-style"></style></math>',
    "<noscript><p title=\"</noscript><meta http-equiv=refresh content='0; url=URL/noscript'>\">",
    '<title><meta http-equiv="refresh" content="0; url=URL/title"></title>',
    '<textarea><meta http-equiv="refresh" content="0; url=URL/textarea"></textarea>',
    '<svg><foreignObject><meta http-equiv="refresh" content="0; url=URL/foreign"></foreignObject></svg>',
    "<svg></p><style><a id=\"</style><meta http-equiv=refresh content='0; url=URL/mutated-style'>\">",
    "<iframe srcdoc=\"<script>top.location='URL/srcdoc'</script>\"></iframe>",
    "<svg onload=\"HANDLER\"><foreignObject><script>HANDLER; location='URL/script'</script></foreignObject></svg>",
]
#: The classics of mutation: what a second parser makes of the first one's output.
MUTATING = [
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=HANDLER&gt;">',
    '<form><math><mtext></form><form><mglyph><style></math><img src onerror="HANDLER">',
    '<math><annotation-xml encoding="text/html"><style><img src=x onerror="HANDLER"></style></annotation-xml></math>',
    '<math><mtext><h1><a><h6></a></h6><mglyph><svg><mtext><style><a title="</style><img src onerror=HANDLER>">',
    '<noembed><img title="</noembed><img src onerror=HANDLER>"></noembed>',
    '<svg><desc><xmp><img title="</xmp><img src onerror=HANDLER>"></xmp></desc></svg>',
    "<listing>&lt;img onerror=HANDLER src=x&gt;</listing>",
]
#: Run, load or look like a part of the page.
PLAIN = [
    '<base href="URL/">',
    '<form action="URL/form"><input autofocus onfocus="HANDLER"><button formaction="URL/button">go</button></form>',
    '<iframe src="URL/frame.html"></iframe>',
    '<object data="URL/object"></object><embed src="URL/embed">',
    '<a href="javascript:HANDLER">a link</a><a href=" java&#10;script:HANDLER">another</a>',
    '<map><area href="javascript:HANDLER"></map><math href="javascript:HANDLER"><mi>x</mi></math>',
    '<svg><use href="URL/use.svg#x"/><image href="URL/svg-image.png"/></svg>',
    '<svg><a><animate attributeName="href" values="javascript:HANDLER"/><text>words</text></a></svg>',
    '<svg><set attributeName="onmouseover" to="HANDLER"/></svg>',
    '<script>HANDLER; fetch("URL/fetched")</script><script src="URL/script.js"></script>',
    '<link rel="stylesheet" href="URL/style.css"><link rel="prefetch" href="URL/prefetched">',
    '<img src="URL/image.png" onerror="HANDLER"><img src="data:image/png;base64,AAAA" onerror="HANDLER">',
    '<img srcset="URL/srcset.png 1x"><video poster="URL/poster.png" autoplay><source src="URL/video"></video>',
    '<table background="URL/table.png"><tr><td style="background: url(URL/cell.png)">a cell</td></tr></table>',
    '<style>body { background: url(URL/background.png) } @import "URL/import.css";</style>',
    '<details ontoggle="HANDLER" open>details</details><marquee onstart="HANDLER">words</marquee>',
    '</div></section></article><h2 id="x">Harmless words</h2>',
]
HOSTILE = [*LEADING_AWAY, *MUTATING, *PLAIN]
#: The converter to MathML puts text into the page as it is.
HOSTILE_TEX = '\\text{<meta\thttp-equiv="refresh"\tcontent="0;url=URL/formula"/>}\\href{javascript:1}{x}'


def hostile(fragments: list[str], url: str = "URL") -> list[str]:
    """Return the fragments with a listener's address, and with handlers that change the title."""
    return [html.replace("URL", url).replace("HANDLER", "document.title = `handler ran`") for html in fragments]
