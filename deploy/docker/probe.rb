#!/usr/bin/ruby --disable-gems
# frozen_string_literal: true

# Health check of an image that has Ruby and no curl: `probe tcp://127.0.0.1:3000 /up` or
# `probe unix:///run/bridge/sidecar.sock /health/ready`. Exits 0 on a 200.

require "socket"

def open_socket(address)
  scheme, rest = address.split("://", 2)
  return UNIXSocket.new(rest) if scheme == "unix"

  host, port = rest.split(":")
  Socket.tcp(host, Integer(port), connect_timeout: 2)
end

address, path = ARGV
socket = open_socket(address)
socket.write("GET #{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
status = socket.gets.to_s[%r{\AHTTP/1\.[01] (\d{3})}, 1]
abort "#{address}#{path}: #{status || "no answer"}" unless status == "200"
