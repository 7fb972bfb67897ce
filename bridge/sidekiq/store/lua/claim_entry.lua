-- Included by the scripts that claim: a job as the in-flight hash holds it. `prefix` is the format version and the queue's name.
-- Lua hashes every byte of a text that it makes: to join prefix and payload takes as long as all else about a large job.
-- So a large payload that names this queue before its first inner bracket stays as it is; claims.py reads the name in it.
local function entry(payload, name, prefix)
  if #payload > 1000 and string.match(payload, '^{[^{%[]-"queue":"([^"\\]*)"') == name then return payload end
  return prefix .. payload
end
