-- Puts google.rpc details on every answer that the gateway gives by itself, the same on three wires:
-- gRPC and gRPC-web in grpc-status-details-bin, JSON in the body. Answers of services pass untouched.
--
-- Before all that refuse, so after them on the way out: nothing overwrites what it says (grpc_web would), and each answer
-- comes by. Envoy shows it marked answers only, so it costs a call nothing that is not refused; what the request was stands
-- in a mark, too. These, the names of marks, those of the limiters, JWT, PAYLOAD and the gateway's own rules are set above.

local DOMAIN = "weft"
local TYPES = "type.googleapis.com/google.rpc."
local SELF = "weft.refusal"          -- dynamic metadata: the grounds for the access log
local HOP = "gateway"
local INSTANCE = os.getenv(INSTANCE_VARIABLE) or ""
local MESSAGE_BYTES_MAX = 512
local RETRY_MS = 1000                -- where no declared limit tells how long to wait

-- gRPC code by HTTP status, for refusals that no rule below knows.
local CODES = {
  [400] = 3, [401] = 16, [403] = 7, [404] = 12, [405] = 12, [408] = 4, [409] = 10, [413] = 8, [415] = 3, [426] = 3,
  [429] = 8, [431] = 8, [500] = 13, [501] = 12, [502] = 14, [503] = 14, [504] = 4,
}
-- Reason by gRPC code, likewise.
local REASONS = {
  [3] = "REQUEST_INVALID", [4] = "DEADLINE_EXCEEDED", [7] = "DENIED", [8] = "TOO_LARGE", [10] = "CONFLICT",
  [12] = "METHOD_UNKNOWN", [13] = "INTERNAL", [14] = "UNAVAILABLE", [16] = "TOKEN_INVALID",
}

-- HTTP status by gRPC code, for a gRPC answer whose first status is not known any more.
local STATUSES = {
  [3] = 400, [4] = 504, [5] = 404, [7] = 403, [8] = 429, [10] = 409, [12] = 404, [13] = 500, [14] = 503, [16] = 401,
}

-- Protobuf encoding -------------------------------------------------------------------------------------------

local function varint(number)
  local bytes = {}
  while number >= 128 do
    bytes[#bytes + 1] = string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  bytes[#bytes + 1] = string.char(number)
  return table.concat(bytes)
end

local function integer(field, value)
  if value == 0 then return "" end
  return varint(field * 8) .. varint(value)
end

local function bytes(field, value)
  return varint(field * 8 + 2) .. varint(#value) .. value
end

local function text(field, value)
  if value == "" then return "" end
  return bytes(field, value)
end

-- JSON encoding -----------------------------------------------------------------------------------------------

local ESCAPES = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t"}

local function quoted(value)
  local plain = string.gsub(value, '[%c"\\]', function(character)
    return ESCAPES[character] or string.format("\\u%04x", string.byte(character))
  end)
  return '"' .. plain .. '"'
end

-- Details: each a pair of protobuf bytes and JSON text ---------------------------------------------------------

local function detail(name, encoded, json)
  return {
    proto = bytes(3, text(1, TYPES .. name) .. bytes(2, encoded)),
    json = '{"@type":' .. quoted(TYPES .. name) .. "," .. json .. "}",
  }
end

local function error_info(reason, metadata)
  local keys, encoded, json = {}, {}, {}
  for key in pairs(metadata) do keys[#keys + 1] = key end
  table.sort(keys)
  for index, key in ipairs(keys) do
    encoded[index] = bytes(3, text(1, key) .. text(2, metadata[key]))
    json[index] = quoted(key) .. ":" .. quoted(metadata[key])
  end
  return detail(
    "ErrorInfo",
    text(1, reason) .. text(2, DOMAIN) .. table.concat(encoded),
    '"reason":' .. quoted(reason) .. ',"domain":' .. quoted(DOMAIN)
      .. ',"metadata":{' .. table.concat(json, ",") .. "}"
  )
end

local function retry_info(wait_ms)
  local seconds, nanos = math.floor(wait_ms / 1000), (wait_ms % 1000) * 1000000
  return detail(
    "RetryInfo",
    bytes(1, integer(1, seconds) .. integer(2, nanos)),
    '"retryDelay":' .. quoted(string.format("%d.%03ds", seconds, wait_ms % 1000))
  )
end

local function quota_failure(subject, description)
  return detail(
    "QuotaFailure",
    bytes(1, text(1, subject) .. text(2, description)),
    '"violations":[{"subject":' .. quoted(subject) .. ',"description":' .. quoted(description) .. "}]"
  )
end

-- The check of JSON and the transcoder say `items[0].quantity: what is wrong`; the transcoder also names an unknown
-- parameter in quotes, and begins with the colon where the fault is in no field.
local function bad_request(message)
  local field, description = string.match(message, "^([%w_%.%[%]]*): (.+)$")
  if field == nil then
    field, description = string.match(message, '^Could not find field "([%w_%.]+)"') or "", message
  end
  local named = field == "" and "" or '"field":' .. quoted(field) .. ","
  return detail(
    "BadRequest",
    bytes(1, text(1, field) .. text(2, description)),
    '"fieldViolations":[{' .. named .. '"description":' .. quoted(description) .. "}]"
  )
end

-- What happened ------------------------------------------------------------------------------------------------

local function begins(value, prefix)
  return string.sub(value, 1, #prefix) == prefix
end

local function has(value, part)
  return string.find(value, part, 1, true) ~= nil
end

-- Whether a reason is about the request itself, for which its sender is told which field.
local function is_of_request(reason)
  return begins(reason, "JSON_") or begins(reason, "GRPC_")
end

-- gRPC code, HTTP status for JSON, reason, and a message where Envoy's own says too little.
local function classify(why, reason, http)
  if begins(reason, "TOKEN_") then return 16, 401, reason, nil end
  if begins(why, "jwt_authn_access_denied") then
    if has(why, "Jwt_is_missing") then return 16, 401, "TOKEN_MISSING", "The call carries no access token" end
    if has(why, "Jwt_is_expired") then return 16, 401, "TOKEN_EXPIRED", "The access token has expired" end
    return 16, 401, "TOKEN_INVALID", nil
  end
  if begins(why, "rbac_access_denied") then
    return 7, 403, "SCOPE_MISSING", "The access token has none of the scopes that the method asks for"
  end
  if begins(why, "local_rate_limited") then return 8, 429, "RATE_LIMITED", "Too many calls" end
  if reason == "OVERLOADED" then return 8, 429, reason, nil end
  if begins(reason, "JSON_") then return 3, http, reason, nil end
  if begins(reason, "GRPC_") then return CODES[http], http, reason, nil end
  if http == 413 then return 8, 413, "REQUEST_TOO_LARGE", "The request is too large" end
  if http == 431 then return 8, 431, "HEADERS_TOO_LARGE", "The request has too many headers" end
  if http == 404 then return 12, 404, "METHOD_UNKNOWN", "No method is served at this path" end
  if has(why, "grpc_json_transcode_failure") and http < 500 then return 3, 400, "JSON_INVALID", nil end
  -- A circuit breaker: not UNAVAILABLE, which is what clients repeat at once.
  if http == 503 and has(why, "overflow") then
    return 8, 429, "OVERLOADED", "Too many calls wait for the service"
  end
  if http == 503 and (begins(why, "no_healthy_upstream") or begins(why, "upstream_")) then
    return 14, 503, "SERVICE_UNREACHABLE", "No instance of the service could be reached"
  end
  local code = CODES[http] or (http < 500 and 3 or 13)
  return code, http, REASONS[code], nil
end

local function value_of(metadata, key)
  local value = metadata:get(key)
  if type(value) == "string" then return value end
  return ""
end

local WORDS = {
  "method", "contract", "access_rule", "access_contract", "scopes", "limit", "limit_key", "limit_rule",
  "limit_contract", "guard", "guard_rule", "guard_contract", "size", "size_rule", "size_contract",
  "timeout_rule", "timeout_contract", "request_rule", "upstream_rule", "waiting_rule",
}

-- The route's own words: who may call it, how often, and where that is said.
local function words_of(handle)
  local metadata = handle:metadata()
  local wait, words = metadata:get("retry_ms"), {}
  for _, key in ipairs(WORDS) do words[key] = value_of(metadata, key) end
  words.wait_ms = type(wait) == "number" and wait or RETRY_MS
  return words
end

-- The rule that decided, and the line of the contract that states it: that of the method where no option does.
local function grounds_of(words, refusal)
  local reason = refusal.reason
  if reason == "SCOPE_MISSING" then return words.access_rule, words.access_contract end
  if begins(reason, "TOKEN_") then return TOKEN_RULE, words.access_contract end
  if reason == "RATE_LIMITED" and refusal.declared then return words.limit_rule, words.limit_contract end
  if reason == "RATE_LIMITED" and words.guard_rule ~= "" then return words.guard_rule, words.guard_contract end
  if reason == "RATE_LIMITED" then return ADDRESS_RULE, words.contract end
  if reason == "REQUEST_TOO_LARGE" and words.size_rule ~= "" then return words.size_rule, words.size_contract end
  if reason == "REQUEST_TOO_LARGE" then return SIZE_RULE, words.contract end
  if reason == "HEADERS_TOO_LARGE" then return GATEWAY_RULE .. HEADERS_LIMIT, words.contract end
  -- The guard refuses for a service that said so; otherwise a circuit breaker was open.
  if reason == "OVERLOADED" and refusal.limiter == reason then return OVERLOAD_RULE, words.contract end
  if reason == "OVERLOADED" and words.waiting_rule ~= "" then return words.waiting_rule, words.contract end
  if reason == "METHOD_UNKNOWN" then return UNKNOWN_RULE, words.contract end
  if is_of_request(reason) and words.request_rule ~= "" then return words.request_rule, words.contract end
  if reason == "SERVICE_UNREACHABLE" and words.upstream_rule ~= "" then return words.upstream_rule, words.contract end
  if begins(refusal.why, "response_timeout") and words.timeout_rule ~= "" then
    return words.timeout_rule, words.timeout_contract
  end
  return GATEWAY_RULE .. reason, words.contract
end

local function subject_of(handle)
  local verified = handle:streamInfo():dynamicMetadata():get(JWT)
  if verified == nil or verified[PAYLOAD] == nil then return "" end
  return tostring(verified[PAYLOAD].sub)
end

-- Callers that were refused together must not come back together.
local function with_jitter(wait_ms)
  return math.floor(wait_ms * (1 + math.random()))
end

-- Details of a refusal, and the time to wait in ms, or nil.
local function describe(handle, refusal, message)
  local words, metadata, found, wait = refusal.words, {hop = HOP}, {}, nil
  local named = {method = words.method, rule = refusal.rule, contract = refusal.contract, instance = INSTANCE}
  for key, value in pairs(named) do
    if value ~= "" then metadata[key] = value end
  end
  if refusal.reason == "SCOPE_MISSING" then
    metadata.scopes = words.scopes
  elseif refusal.reason == "RATE_LIMITED" then
    local subject, limit = "address", words.guard ~= "" and words.guard or "calls from one address"
    wait = with_jitter(RETRY_MS)
    if refusal.declared then
      subject = refusal.limiter == SUBJECT_LIMIT and ("subject:" .. subject_of(handle)) or "address"
      limit, wait = words.limit, with_jitter(words.wait_ms)
    end
    metadata.limit = limit
    found[1] = quota_failure(subject, limit)
    found[2] = retry_info(wait)
  elseif refusal.reason == "REQUEST_TOO_LARGE" and words.size ~= "" then
    metadata.limit = words.size
    found[1] = quota_failure("request", words.size)
  elseif refusal.reason == "HEADERS_TOO_LARGE" then
    metadata.limit = HEADERS_LIMIT
    found[1] = quota_failure("headers", HEADERS_LIMIT)
  elseif refusal.code == 14 or refusal.reason == "OVERLOADED" then
    wait = with_jitter(RETRY_MS)
    found[1] = retry_info(wait)
  elseif is_of_request(refusal.reason) then
    found[1] = bad_request(message)
  end
  table.insert(found, 1, error_info(refusal.reason, metadata))
  return found, wait
end

-- Messages quote what callers sent: printable ASCII only, and not all of it.
local function clean(message)
  local plain = string.gsub(string.sub(message, 1, MESSAGE_BYTES_MAX), "[^\32-\126]", "?")
  return plain
end

local function unescaped(message)
  local plain = string.gsub(message, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  return plain
end

local function escaped(message)
  local plain = string.gsub(message, "%%", "%%25")
  return plain
end

local function joined(details, key, separator)
  local parts = {}
  for index, one in ipairs(details) do parts[index] = one[key] end
  return table.concat(parts, separator)
end

-- The wires -----------------------------------------------------------------------------------------------------

local function answer_grpc(handle, headers, refusal)
  local message = clean(refusal.message or unescaped(headers:get("grpc-message") or ""))
  local details, wait = describe(handle, refusal, message)
  local status = integer(1, refusal.code) .. text(2, message) .. joined(details, "proto", "")
  -- A gRPC answer is 200 whatever it says; gRPC-web clients would read the code from another HTTP status.
  headers:replace(":status", "200")
  headers:replace("grpc-status", tostring(refusal.code))
  headers:replace("grpc-message", escaped(message))
  headers:replace("grpc-status-details-bin", handle:base64Escape(status))
  if wait ~= nil then headers:replace("grpc-retry-pushback-ms", tostring(wait)) end
end

-- Headers first: they cannot be touched any more once the body has been waited for.
local function answer_json(handle, headers, refusal)
  headers:replace(":status", tostring(refusal.http))
  headers:replace("content-type", "application/json")
  headers:remove("grpc-status")
  headers:remove("grpc-message")
  local details, wait = describe(handle, refusal, refusal.message or "")
  if wait ~= nil then headers:replace("retry-after", tostring(math.ceil(wait / 1000))) end
  local body = handle:body(true)
  local message = refusal.message
  if message == nil then
    message = clean(body:getBytes(0, body:length()))
    if is_of_request(refusal.reason) then details[2] = bad_request(message) end
  end
  body:setBytes(
    '{"code":' .. refusal.code .. ',"message":' .. quoted(message)
      .. ',"details":[' .. joined(details, "json", ",") .. "]}"
  )
end

-- The mark holds the request's method, the one it had before the transcoder, and its content type; nothing for none.
local function wire_of(headers)
  local method, original, kind = string.match(headers:get(WIRE) or "", "^(%S*) ?(%S*) ?(.*)$")
  if method == "HEAD" or original == "HEAD" then return "none" end
  if original ~= "" then return "json" end
  -- Where Envoy could not read the request, its answer tells what it took it for.
  if kind == "" then kind = headers:get("content-type") or "" end
  return begins(kind, "application/grpc") and "grpc" or "json"
end

-- The HTTP status before it was turned into a gRPC one.
local function http_of(headers)
  local http = tonumber(headers:get(STATUS) or "") or tonumber(headers:get(":status") or "") or 500
  if http >= 400 then return http end
  local code = tonumber(headers:get("grpc-status") or "") or 0
  if code == 0 then return http end
  return STATUSES[code] or 500
end

-- What the marks tell; nobody sees them after this.
local function taken(headers, why)
  local told = {why = why, http = http_of(headers), reason = headers:get(REASON) or "", wire = wire_of(headers)}
  for _, mark in ipairs({WHY, STATUS, REASON, WIRE}) do headers:remove(mark) end
  return told
end

local function explain(handle, headers, why)
  local told = taken(headers, why)
  if told.http < 400 then return end
  local code, status, reason, message = classify(told.why, told.reason, told.http)
  local words = words_of(handle)
  local refusal = {
    code = code, http = status, reason = reason, message = message, why = told.why, limiter = told.reason, words = words,
    -- A limit of the contract's; the other is the guard of the gateway itself.
    declared = told.reason == SUBJECT_LIMIT or words.limit_key == "address",
  }
  refusal.rule, refusal.contract = grounds_of(words, refusal)
  local noted = handle:streamInfo():dynamicMetadata()
  for _, key in ipairs({"reason", "rule", "contract"}) do
    if refusal[key] ~= "" then noted:set(SELF, key, refusal[key]) end
  end
  if told.wire == "grpc" then
    answer_grpc(handle, headers, refusal)
  elseif told.wire == "json" then
    answer_json(handle, headers, refusal)
  end
end

-- Envoy shows it marked answers only. An error here costs the details, not the refusal.
function envoy_on_response(handle)
  local headers = handle:headers()
  local why = headers:get(WHY)
  if why == nil then return end
  local ran, problem = pcall(explain, handle, headers, why)
  if ran then return end
  handle:logErr("refusal: " .. tostring(problem))
  handle:streamInfo():dynamicMetadata():set(SELF, "reason", "GATEWAY_SCRIPT")
end
