# frozen_string_literal: true

# A value that ActiveJob cannot serialize by itself; see MoneySerializer.
Money = Struct.new(:cents, :currency) do
  def to_s
    format("%.2f %s", cents / 100.0, currency)
  end
end
