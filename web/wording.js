// Sentences with values filled in. No DOM, no graph.

/**
 * The text with its [names] filled in. One of something is one: a plural behind the name of a
 * number, as in "[frames] frames", loses its s.
 */
export function filled(text, values) {
  return text.replace(/\[(\w+)\](?: (\p{L}+s)(?!\p{L}))?/gu, (all, name, plural) => {
    if (!(name in values)) return all;
    const one = name.endsWith("s") && Number(values[name]) === 1;
    const word = plural && ` ${one ? plural.slice(0, -1) : plural}`;
    return `${values[name]}${word ?? ""}`;
  });
}
