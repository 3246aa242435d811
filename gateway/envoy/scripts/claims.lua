-- Checks of the verified access token that jwt_authn does not make (RFC 9068, RFC 7515 section 4.1.11), so that this
-- gateway and the instances behind it accept the same tokens.
-- Runs after jwt_authn; a route that asks for no token has no claims here, and rbac decides about it.
-- checks is the script above; the constants in capitals are set above.
-- Byte by byte throughout, because LuaJIT does not compile string patterns.

local byte, floor = string.byte, math.floor
local INVALID, EXPIRED = "TOKEN_INVALID", "TOKEN_EXPIRED"
local DOT, SPACE = byte("."), byte(" ")
local SIGNATURE_CHARS = 86           -- the two numbers of ES256, 64 bytes (RFC 7518 section 3.4)

local ID_BYTES, BASE64URL = {}, {}
for value, character in ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):gmatch("()(.)") do
  BASE64URL[byte(character)] = value - 1
  if value <= 62 then ID_BYTES[byte(character)] = true end
end
for mark in ID_MARKS:gmatch(".") do ID_BYTES[byte(mark)] = true end
local HEADER_FIELDS = {}
for name in HEADER_NAMES:gmatch("%S+") do HEADER_FIELDS[name] = true end

local function is_id(text)
  if type(text) ~= "string" or #text < 1 or #text > ID_CHARS_MAX then return false end
  for index = 1, #text do
    if not ID_BYTES[byte(text, index)] then return false end
  end
  return true
end

-- Scopes divided by single spaces, each of lower-case words with dots between them; none at all is a list, too.
local function is_scopes(text)
  if type(text) ~= "string" then return false end
  if text == "" then return true end
  local word, dots = 0, 0
  for index = 1, #text do
    local one = byte(text, index)
    if one >= 97 and one <= 122 or word > 0 and one >= 48 and one <= 57 then
      word = word + 1
    elseif one == DOT and word > 0 then
      word, dots = 0, dots + 1
    elseif one == SPACE and word > 0 and dots > 0 then
      word, dots = 0, 0
    else
      return false
    end
  end
  return word > 0 and dots > 0
end

-- A whole number of seconds.
local function is_time(value)
  return type(value) == "number" and value >= 0 and value < 9007199254740992 and floor(value) == value
end

local function is_audience(value)
  if value == AUDIENCE then return true end
  if type(value) ~= "table" then return false end
  local ours, listed = false, 0
  for _ in pairs(value) do listed = listed + 1 end
  -- A list has no other keys than its indexes.
  if listed ~= #value then return false end
  for index = 1, listed do
    if type(value[index]) ~= "string" then return false end
    ours = ours or value[index] == AUDIENCE
  end
  return ours
end

local function is_actor(value)
  if type(value) ~= "table" then return false end
  for key in pairs(value) do
    if key ~= "sub" then return false end
  end
  return is_id(value.sub)
end

-- `Bearer ` and three parts in base64url, each written in the only way there is: nothing before, between or after.
-- jwt_authn reads the first thing that looks like a token and passes over the rest, be it another one.
local function is_bearer(text)
  if type(text) ~= "string" or #text > #SCHEME + CHARS_MAX or text:sub(1, #SCHEME) ~= SCHEME then return false end
  local dots, length, last = 0, 0, 0
  for index = #SCHEME + 1, #text + 1 do
    local one = byte(text, index)
    if one == DOT or one == nil then
      local rest = length % 4
      if length == 0 or rest == 1 or rest == 2 and last % 16 ~= 0 or rest == 3 and last % 4 ~= 0 then return false end
      if one ~= nil then dots, length = dots + 1, 0 end
    else
      last = BASE64URL[one]
      if last == nil then return false end
      length = length + 1
    end
  end
  return dots == 2 and length == SIGNATURE_CHARS
end

-- A sentence about what is wrong with the header, or nil.
local function header_fault(header)
  if type(header) ~= "table" or header.typ ~= TYPE then
    return "The token is not an access token (typ must be at+jwt)"
  end
  if header.alg ~= ALGORITHM then return "The token is not signed with ES256" end
  if header.crit ~= nil then return "The token has a critical extension nobody here understands" end
  if not is_id(header.kid) then return "The token does not name its key" end
  for name in pairs(header) do
    if not HEADER_FIELDS[name] then return "The token's header says more than alg, kid and typ" end
  end
  return nil
end

-- Likewise of the times.
local function times_fault(claims, now)
  if not is_time(claims.iat) or not is_time(claims.exp) then
    return "The token does not say when it was issued and when it expires"
  end
  if claims.nbf ~= nil and (not is_time(claims.nbf) or claims.nbf > now + SKEW_S) then
    return "The token is not valid yet"
  end
  if claims.iat > now + SKEW_S then return "The token was issued in the future" end
  if claims.exp <= claims.iat or claims.exp - claims.iat > LIFETIME_S then
    return "The token is good for too long, or for no time"
  end
  return nil
end

-- Likewise of who is said to call.
local function identity_fault(claims)
  if not is_id(claims.sub) then return "The token's subject is missing or malformed" end
  if claims.act ~= nil and not is_actor(claims.act) then return "The token's actor is malformed" end
  if not is_id(claims.sid) or not is_id(claims.jti) then return "The token does not name its session and itself" end
  if claims.iss ~= ISSUER or not is_audience(claims.aud) then return "The token is of another issuer or audience" end
  if not is_scopes(claims.scope) then return "The token's scopes are missing or malformed" end
  return nil
end

-- The reason for which the token is refused and a sentence about it, or nil.
local function verdict(claims, header, bearer, now)
  if not is_bearer(bearer) then return INVALID, "The authorization header is not one bearer token" end
  local fault = header_fault(header)
  if fault ~= nil then return INVALID, fault end
  if type(claims) ~= "table" then return INVALID, "The token has no claims" end
  fault = times_fault(claims, now) or identity_fault(claims)
  if fault ~= nil then return INVALID, fault end
  if claims.exp + SKEW_S <= now then return EXPIRED, "The access token has expired" end
  return nil
end

-- Tokens that have passed, with the time until which they do and who they are of: reading the claims out of Envoy costs more than all the
-- checks. What a token says cannot change and time only makes it older, so one that passed passes until it expires; and
-- jwt_authn has verified the token in this very header once more before it is looked up here. One table for each worker.
local passed, subjects, count = {}, {}, 0

local function remember(bearer, claims)
  if count >= TOKENS_MAX then passed, subjects, count = {}, {}, 0 end
  passed[bearer], subjects[bearer], count = claims.exp, claims.sub, count + 1
end

-- For the log, which would copy all that the token says to find it.
local function note(info, subject)
  info:filterState():set(SUBJECT, STRING, subject)
end

-- Raises a refusal: status, reason and sentence.
local function check(handle, headers)
  local bearer = headers:get("authorization")
  local expiry = bearer ~= nil and passed[bearer]
  -- Whole seconds, as in the claim; Envoy's own clock costs a call of Envoy.
  if expiry and os.time() < expiry then return note(handle:streamInfo(), subjects[bearer]) end
  local info = handle:streamInfo()
  local verified = info:dynamicMetadata():get(JWT)
  if verified == nil or (verified[PAYLOAD] == nil and verified[HEADER] == nil) then return end
  local claims, now = verified[PAYLOAD], handle:timestamp() / 1000
  if type(claims) == "table" and is_id(claims.sub) then note(info, claims.sub) end
  local reason, sentence = verdict(claims, verified[HEADER], bearer, now)
  if reason ~= nil then checks.stop("401", reason, sentence) end
  -- In its last seconds, which clocks that differ may take for past, it is looked at each time.
  if now < claims.exp then remember(bearer, claims) end
end

return {check = check}
