# frozen_string_literal: true

require "ipaddr"
require "socket"
require "uri"
require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # The address of a sidecar: tcp://host:port, ssl://host:port?cert=..&key=..&ca=.. or unix:///path.
    class Bind
      # A Unix socket's path has at most 107 bytes, and a Puma worker adds its number.
      LONGEST_PATH = 104
      # Ruby opens a higher number modulo 65536, which is a port that the user did not name.
      HIGHEST_PORT = 65_535

      attr_reader :scheme, :host, :port, :path, :tls

      def self.parse(text, cert: nil, key: nil, ca: nil)
        uri = URI.parse(text)
        case uri.scheme
        when "unix" then new("unix", path: unix_path(uri, text))
        when "tcp", "ssl" then new(uri.scheme, host: uri.hostname, port: uri.port, tls: tls(uri, cert, key, ca))
        else raise UsageError, "#{text} is not an address: --bind takes tcp://host:port, ssl://host:port or unix:///path"
        end
      rescue URI::Error
        raise UsageError, "#{text} is not an address: --bind takes tcp://host:port, ssl://host:port or unix:///path"
      end

      def self.unix_path(uri, text)
        path = "#{uri.host}#{uri.path}"
        raise UsageError, "#{text} has no absolute path: write unix://#{File.expand_path(path)}" unless path.start_with?("/")
        raise UsageError, "#{path} is longer than #{LONGEST_PATH} bytes: choose a shorter one" if path.bytesize > LONGEST_PATH
        path
      end

      def self.tls(uri, cert, key, ca)
        return if uri.scheme == "tcp"
        query = URI.decode_www_form(uri.query.to_s).to_h
        files = {"cert" => cert || query["cert"], "key" => key || query["key"], "ca" => ca || query["ca"]}.compact
        raise StartError, "ssl:// needs a certificate: give --tls-cert and --tls-key" unless files["cert"] && files["key"]
        files.each { |name, file| check_readable(name, file) }
        files["ca"] ? files.merge("verify_mode" => "force_peer") : files.merge("verify_mode" => "none")
      end

      def self.check_readable(name, file)
        raise StartError, "cannot read #{file}: correct --tls-#{name}" unless File.readable?(file)
      end
      private_class_method :unix_path, :tls, :check_readable

      def initialize(scheme, host: nil, port: nil, path: nil, tls: nil)
        raise UsageError, "#{scheme}:// needs a host and a port, as in #{scheme}://127.0.0.1:9292" unless path || (host && port)
        raise UsageError, "#{scheme}://#{host}:#{port}: a port is at most #{HIGHEST_PORT}" if port && port > HIGHEST_PORT
        @scheme = scheme
        @host = host
        @port = port
        @path = path
        @tls = tls
      end

      def unix? = scheme == "unix"

      def tls? = scheme == "ssl"

      # Every address that the name resolves to must be loopback, not only the first.
      def loopback?
        addresses = Addrinfo.getaddrinfo(host, port, nil, :STREAM)
        addresses.any? && addresses.all? { |address| IPAddr.new(address.ip_address[/[^%]+/]).loopback? }
      rescue SocketError
        raise StartError, "#{host} cannot be resolved: correct --bind"
      end

      # The private address of Puma worker `index`, always a Unix socket. Other programs may use the neighbouring ports,
      # or a firewall may block them. Clients connect to the one beside a shared socket; sibling processes connect to
      # the one in `directory`.
      def private(index, directory)
        self.class.new("unix", path: unix? ? "#{path}.#{index}" : File.join(directory, "#{index}.sock"))
      end

      def to_s
        return "unix://#{path}" if unix?
        "#{scheme}://#{host.include?(":") ? "[#{host}]" : host}:#{port}"
      end
    end
  end
end
