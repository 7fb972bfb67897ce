# frozen_string_literal: true

require "openssl"

# A certificate that vouches for itself, for 127.0.0.1.
module TlsFiles
  module_function

  # Paths of certificate and key.
  def make(directory)
    key = OpenSSL::PKey::EC.generate("prime256v1")
    certificate = OpenSSL::X509::Certificate.new
    certificate.version = 2
    certificate.serial = 1
    certificate.subject = certificate.issuer = OpenSSL::X509::Name.parse("/CN=127.0.0.1")
    certificate.public_key = key
    certificate.not_before = Time.now - 3600
    certificate.not_after = Time.now + 3600
    certificate.sign(key, OpenSSL::Digest.new("SHA256"))
    {"cert.pem" => certificate, "key.pem" => key}.map do |name, part|
      File.join(directory, name).tap { |path| File.write(path, part.to_pem) }
    end
  end
end
