// Texts with placeholders. No DOM, no graph.

/**
 * The text with its [names] replaced by values. After a name in the plural whose value is 1, a
 * plural word loses its s: "[frames] frames" becomes "1 frame".
 */
export function filled(text, values) {
  return text.replace(/\[(\w+)\](?: (\p{L}+s)(?!\p{L}))?/gu, (all, name, plural) => {
    if (!(name in values)) return all;
    const one = name.endsWith("s") && Number(values[name]) === 1;
    const word = plural && ` ${one ? plural.slice(0, -1) : plural}`;
    return `${values[name]}${word ?? ""}`;
  });
}
