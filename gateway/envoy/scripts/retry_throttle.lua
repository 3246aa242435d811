-- Stops retries while they do not help: the throttle of gRFC A6, counted by calls and not by attempts. A call that ends
-- in UNAVAILABLE in spite of its retries costs ten; any other end of a call that may be retried gives one back; while
-- no more than half is left, calls get no retries. Each worker thread counts for itself, each service apart.
--
-- An instance that is killed costs nothing: its calls are answered by another one. In an outage of all instances the
-- retries of a few calls are spent, and the rest fail at once.
--
-- Hedges have a bucket of their own: each attempt beyond the first costs ten, each call that needed none gives one back,
-- and while no more than half is left, calls are not hedged. They keep their retries.
-- SERVICE, HEDGED, TOKENS_MAX, HEDGES_MAX, COST, REFUND, REASON, COUNTED and STRING are set above.

local left = {}
-- How many buckets are not full. While all are, a call that ends well at once changes nothing, nothing is looked up for it,
-- and its answer is not even shown: that is nearly every call.
local hurt = 0

local function spent(bucket, most)
  return bucket ~= nil and (left[bucket] or most) * 2 <= most
end

local function limit(handle, headers)
  local route = handle:metadata()
  handle:streamInfo():filterState():set(COUNTED, STRING, "yes")
  if spent(route:get(SERVICE), TOKENS_MAX) then headers:replace("x-envoy-max-retries", "0") end
  if spent(route:get(HEDGED), HEDGES_MAX) then headers:replace("x-envoy-upstream-rq-per-try-timeout-ms", "0") end
end

local function settle(bucket, most, change)
  if bucket == nil then return end
  local before = left[bucket] or most
  local now = math.max(0, math.min(most, before + change))
  left[bucket] = now
  if before == most and now < most then hurt = hurt + 1 end
  if before < most and now == most then hurt = hurt - 1 end
end

local function count(handle, headers, failed, refused, more)
  local route = handle:metadata()
  if failed then
    -- What a script has refused was never on its way.
    if headers:get(REASON) == nil then settle(route:get(SERVICE), TOKENS_MAX, -COST) end
  elseif not refused then
    settle(route:get(SERVICE), TOKENS_MAX, REFUND)
  end
  if more ~= nil then settle(route:get(HEDGED), HEDGES_MAX, more > 0 and -COST * more or REFUND) end
end

return {
  -- An error here costs the throttle, not the call.
  limit = function(handle, headers)
    if hurt == 0 then return end
    local ran, problem = pcall(limit, handle, headers)
    if not ran then handle:logErr("throttle: " .. tostring(problem)) end
  end,
  -- `failed`: the call ended in UNAVAILABLE; `refused`: the gateway gave the answer, be it because it reached no service;
  -- `attempts`: how many were sent, of a call that may be hedged and was on its way.
  count = function(handle, headers, failed, refused, attempts)
    local more = attempts and (tonumber(attempts) or 1) - 1
    if hurt == 0 and not failed and (more or 0) == 0 then return end
    local ran, problem = pcall(count, handle, headers, failed, refused, more)
    if not ran then handle:logErr("throttle: " .. tostring(problem)) end
  end,
}
