-- Stops retries while they do not help: the throttle of gRFC A6, counted by calls and not by attempts. A call that ends
-- in UNAVAILABLE in spite of its retries costs ten; any other end of a call that may be retried gives one back; while
-- no more than half is left, calls get no retries. Each worker thread counts for itself, each service apart.
--
-- An instance that is killed costs nothing: its calls are answered by another one. In an outage of all instances the
-- retries of a few calls are spent, and the rest fail at once.
-- SERVICE, TOKENS_MAX, COST and REFUND are set above.

local left = {}
-- How many services have less than TOKENS_MAX left. While none has, a call that ends well changes nothing, and nothing is
-- looked up for it: that is nearly every call.
local hurt = 0

-- The service whose retries count, nil where the contract allows none.
local function service_of(handle)
  return handle:metadata():get(SERVICE)
end

local function limit(handle)
  if hurt == 0 then return end
  local service = service_of(handle)
  if service ~= nil and (left[service] or TOKENS_MAX) * 2 <= TOKENS_MAX then
    handle:headers():replace("x-envoy-max-retries", "0")
  end
end

local function count(handle)
  local headers = handle:headers()
  local failed = headers:get("grpc-status") == "14" or headers:get(":status") == "503"
  if not failed and hurt == 0 then return end
  local service = service_of(handle)
  if service == nil then return end
  local before = left[service] or TOKENS_MAX
  local now = failed and math.max(0, before - COST) or math.min(TOKENS_MAX, before + REFUND)
  left[service] = now
  if before == TOKENS_MAX and now < TOKENS_MAX then hurt = hurt + 1 end
  if before < TOKENS_MAX and now == TOKENS_MAX then hurt = hurt - 1 end
end

-- An error here costs the throttle, not the call.
function envoy_on_request(handle)
  local ran, problem = pcall(limit, handle)
  if not ran then handle:logErr("retry_throttle: " .. tostring(problem)) end
end

function envoy_on_response(handle)
  local ran, problem = pcall(count, handle)
  if not ran then handle:logErr("retry_throttle: " .. tostring(problem)) end
end
