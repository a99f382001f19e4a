// The console's parts that need no page, tried in the browser that will run them. The value of this expression
// is a list of what failed; see tests/console.
(async () => {
  const at = (path) => import(`/console/${path}`)
  const [{ Parser, pause, Stream }, scale, points, format, dom] = await Promise.all(
    ['sse.js', 'drawings/scale.js', 'drawings/points.js', 'format.js', 'dom.js'].map(at))
  const failed = []
  const same = (what, got, wanted) => {
    if (JSON.stringify(got) !== JSON.stringify(wanted)) failed.push(`${what}: ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`)
  }

  // Server-sent events: the same events, wherever the stream is cut.
  const stream = 'retry: 2000\r\n: a comment\r\nid: 7\nevent: city\ndata: {"a":1}\n\ndata: one\rdata:two\r\r\nevent: nothing\n\ndata\n\n'
  const wanted = [{ type: 'city', data: '{"a":1}' }, { type: 'message', data: 'one\ntwo' }, { type: 'message', data: '' }]
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const parser = new Parser()
    same(`events cut at ${cut}`, [...parser.push(stream.slice(0, cut)), ...parser.push(stream.slice(cut))], wanted)
    same('the last id', parser.lastId, '7')
  }
  const single = new Parser()
  same('events a character at a time', [...stream].flatMap((one) => single.push(one)), wanted)

  // Pauses between attempts grow, are spread, and have a bound.
  same('first pauses', [pause(0, 0), pause(0, 1)], [250, 500])
  same('the longest pause', pause(50, 1), 10_000)

  // A stream that falls silent, though its connection stays open, is lost, and is opened again.
  const states = []
  let opened = 0
  await new Promise((resolve) => {
    const silent = new Stream({
      silence: 50,
      onEvent () {},
      onState: ({ state }) => states.push(state),
      open: async (signal) => {
        opened += 1
        if (opened === 2) resolve()
        const body = new ReadableStream({
          start (to) {
            to.enqueue(new TextEncoder().encode('data: x\n\n'))
            signal.addEventListener('abort', () => to.error(new Error('aborted')))
          }
        })
        return new Response(body)
      }
    })
    silent.start()
    setTimeout(resolve, 10_000)
  })
  same('a silent stream is opened again', opened, 2)
  same('what it says', states.slice(0, 3), ['connecting', 'live', 'lost'])

  // Axes.
  same('marks of values', scale.valueAxis(3, 97).marks, [0, 20, 40, 60, 80, 100])
  same('marks of small values', scale.valueAxis(0.01, 0.03, 2).marks, [0.01, 0.02, 0.03])
  same('marks around one value', scale.valueAxis(5, 5, 2).marks.length > 1, true)
  const hour = 3_600_000
  same('marks of times by the city\'s clock', scale.timeAxis(0, 24 * hour, 2, 8 * hour).marks, [4 * hour, 16 * hour])

  // Lines: cut at gaps, thinned without losing a peak, found by time.
  const line = [0, 1, 2, 3, 10, 11].map((one) => ({ at: one * 1000, value: one }))
  const { pieces, gaps } = points.cut(line, 2500)
  same('pieces', pieces.map((piece) => piece.length), [4, 2])
  same('gaps', gaps, [{ from: 3000, to: 10_000 }])
  same('the usual pause', points.usual(line), 1000)
  same('nearest', [points.nearest(line, 6000), points.nearest(line, 7000), points.nearest([], 1)], [3, 4, -1])
  const many = Array.from({ length: 10_000 }, (_, n) => ({ at: n, value: n === 5555 ? 1000 : n % 7 }))
  const thinned = points.thin(many, 0, 10_000, 100)
  same('a peak is kept', thinned.some(({ value }) => value === 1000), true)
  same('few are left', thinned.length <= 400, true)
  same('in their order', thinned.every(({ at: one }, n) => n === 0 || thinned[n - 1].at < one), true)

  // Words for figures.
  same('figures', [format.bytes(812_345), format.length(1.94), format.length(90_000), format.short(12_345_678), format.number(null)],
    ['812 kB', '1.9 ms', '1.5 min', '12.3M', '–'])

  // Lists keep the elements of what stays.
  const parent = document.createElement('ul')
  const show = (keys) => dom.list(parent, keys, (key) => key, (key) => dom.h('li', null, key))
  show(['a', 'b', 'c'])
  const b = parent.children[1]
  show(['c', 'b', 'd'])
  same('a list', [...parent.children].map((one) => one.textContent), ['c', 'b', 'd'])
  same('the same element', parent.children[1] === b, true)
  return failed
})()
