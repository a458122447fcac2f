// Looks at the page as a reader does: everything that is unfolded and has text or is a plot.
(() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const parse = (colour) => {
    const parts = colour.match(/[\d.]+/g).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const { rgb, alpha } = parse(getComputedStyle(e).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, title")) continue;
    const style = getComputedStyle(element);
    const svg = element.closest("svg");
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    const colour = parse(svg ? style.fill : style.color).rgb;
    texts.push({ text: node.data.trim().slice(0, 60), size: parseFloat(style.fontSize) * scale, contrast: contrast(colour, ground(element)), svg: !!svg });
  }
  const box = (element) => element.getBoundingClientRect();
  const plots = [...document.querySelectorAll("figure.plot > svg")].map((svg) => {
    const outer = box(svg);
    const outside = [...svg.querySelectorAll("text, path.mark, path.spread")].filter((part) => {
      const inner = box(part);
      return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
    });
    const words = [...svg.querySelectorAll("text.tick, text.unit, text.row-name, text.row-value, text.rule-name, text.off")];
    const covered = [];
    for (const [index, one] of words.entries()) {
      for (const other of words.slice(index + 1)) {
        const [a, b] = [box(one), box(other)];
        const apart = a.right <= b.left || b.right <= a.left || a.bottom - 3 <= b.top || b.bottom - 3 <= a.top;
        if (!apart) covered.push(`${one.textContent} | ${other.textContent}`);
      }
    }
    const marks = [...svg.querySelectorAll("path.mark")];
    return {
      name: svg.getAttribute("aria-label"),
      width: outer.width,
      height: outer.height,
      series: [...svg.querySelectorAll(".series")].map((series) => series.dataset.subject),
      marks: marks.length,
      drawn: marks.filter((mark) => box(mark).width > 3 && box(mark).height > 3).length,
      markContrast: Math.min(...marks.map((mark) => {
        const style = getComputedStyle(mark);
        return contrast(parse(mark.classList.contains("hollow") ? style.stroke : style.fill).rgb, ground(svg));
      })),
      outside: outside.map((part) => part.textContent || part.getAttribute("class")),
      covered,
    };
  });
  const root = document.documentElement;
  return {
    viewport: window.innerWidth,
    document: root.scrollWidth,
    texts: texts.length,
    smallest: texts.reduce((least, text) => (text.size < least.size ? text : least)),
    faintest: texts.reduce((least, text) => (text.contrast < least.contrast ? text : least)),
    plots,
    colours: [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, getComputedStyle(document.querySelector("path.mark")).fill],
    raw: JSON.parse(document.querySelector("script#report").textContent).figures.length,
  };
})()
