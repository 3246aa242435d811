-- Checks of the verified access token that jwt_authn does not make (RFC 9068, RFC 7515 section 4.1.11).
-- Runs after jwt_authn; a route that asks for no token has no claims here, and rbac decides about it.
-- Fails closed: an error in a check is a refusal. SKEW_S, LIFETIME_S, JWT, PAYLOAD, HEADER, REASON
-- and TOKENS_MAX are set above.

-- A subject's alphabet. Byte by byte, because LuaJIT does not compile string patterns.
local function is_subject(text)
  if type(text) ~= "string" or #text < 1 or #text > 64 then return false end
  for index = 1, #text do
    local byte = string.byte(text, index)
    local letter = (byte >= 97 and byte <= 122) or (byte >= 65 and byte <= 90)
    local digit = byte >= 48 and byte <= 57
    if not (letter or digit or byte == 45 or byte == 95) then return false end
  end
  return true
end

-- A finite number of seconds.
local function is_time(value)
  return type(value) == "number" and value == value and value > -1e12 and value < 1e12
end

-- The reason for which the token is refused and a sentence about it, or nil.
local function verdict(claims, header, now)
  if type(header) ~= "table" or header.typ ~= "at+jwt" then
    return "TOKEN_TYPE", "The token is not an access token (typ must be at+jwt)"
  end
  if header.alg ~= "ES256" then return "TOKEN_ALGORITHM", "The token is not signed with ES256" end
  if header.crit ~= nil then return "TOKEN_CRITICAL", "The token has a critical extension nobody here understands" end
  if type(header.kid) ~= "string" or header.kid == "" then return "TOKEN_KEY", "The token does not name its key" end
  if type(claims) ~= "table" then return "TOKEN_CLAIMS", "The token has no claims" end
  if not is_subject(claims.sub) then return "TOKEN_SUBJECT", "The token's subject is missing or malformed" end
  if not is_time(claims.iat) or not is_time(claims.exp) then
    return "TOKEN_TIMES", "The token does not say when it was issued and when it expires"
  end
  if claims.iat > now + SKEW_S then return "TOKEN_FROM_FUTURE", "The token was issued in the future" end
  if claims.exp - claims.iat > LIFETIME_S then return "TOKEN_LIFETIME", "The token is good for too long" end
  if claims.act ~= nil and (type(claims.act) ~= "table" or not is_subject(claims.act.sub)) then
    return "TOKEN_ACTOR", "The token's actor is malformed"
  end
  return nil
end

-- Tokens that have passed, with the time until which they do: reading the claims out of Envoy costs more than all the
-- checks. What a token says cannot change and time only makes it older, so one that passed passes until it expires; and
-- jwt_authn has verified the token in this very header once more before it is looked up here. One table for each worker.
local passed, count = {}, 0

local function remember(bearer, expiry)
  if bearer == nil then return end
  if count >= TOKENS_MAX then passed, count = {}, 0 end
  passed[bearer], count = expiry, count + 1
end

local function examine(handle)
  local bearer, now = handle:headers():get("authorization"), handle:timestamp() / 1000
  local expiry = bearer ~= nil and passed[bearer]
  if expiry and now < expiry then return nil end
  local verified = handle:streamInfo():dynamicMetadata():get(JWT)
  if verified == nil or (verified[PAYLOAD] == nil and verified[HEADER] == nil) then return nil end
  local reason, sentence = verdict(verified[PAYLOAD], verified[HEADER], now)
  if reason == nil then remember(bearer, verified[PAYLOAD].exp) end
  return reason, sentence
end

function envoy_on_request(handle)
  local ran, reason, sentence = pcall(examine, handle)
  if not ran then
    handle:logErr("claims: " .. tostring(reason))
    reason, sentence = "TOKEN_UNCHECKED", "The token could not be checked"
  end
  if reason ~= nil then
    handle:respond({[":status"] = "401", [REASON] = reason}, sentence)
  end
end
