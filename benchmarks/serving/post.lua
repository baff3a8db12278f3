-- Post one message again and again; tell as JSON what became of it. Percentiles are in microseconds.
local function read(name)
  local file = assert(io.open(os.getenv(name), "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

wrk.method = "POST"
wrk.body = read("WRK_BODY")
for name, value in read("WRK_HEADERS"):gmatch("([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "connect": %d, "read": %d, "write": %d, "code": %d, "timeout": %d,'
      .. ' "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
